// Ten thousand rows, scrolled through from end to end: each is shown, none twice, and few are in the page at a time.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { launch, open } from './browser.mjs'
import { startServer } from './server.mjs'

const ROWS = 10_000
const AT_ONCE = 40

let server, browser

/** Waiting jobs: rows like all others, without the hours that ten thousand pictures would take. */
async function fill() {
  await fetch(`${server.address}/api/queue/pause`, { method: 'POST' })
  let next = 0
  async function work() {
    while (next < ROWS) {
      const i = (next += 1)
      const body = { prompt: `picture number ${i}`, width: 64 + 16 * (i % 8), height: 64 + 16 * (i % 5) }
      const answer = await fetch(`${server.address}/api/generate/image`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      assert.equal(answer.status, 201)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
}

before(async () => {
  const flags = ['--no-worker', '--max-waiting', String(2 * ROWS)]
  ;[server, browser] = await Promise.all([startServer({ flags }), launch()])
  await fill()
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

test('ten thousand rows scroll by, none missing', async () => {
  const { page, faults } = await open(browser, server.address)
  await page.goto('/gallery?status=pending')
  await page.getByTestId('gallery').getByRole('listitem').first().waitFor()
  const seen = await page.evaluate(
    async (rows) => {
      const frame = () => new Promise((resolve) => requestAnimationFrame(resolve))
      const scroller = document.querySelector('[data-testid=gallery]')
      const ids = new Set()
      const frames = []
      let most = 0
      let stuck = 0
      const tiles = () => [...scroller.querySelectorAll('[data-id]')]
      /** Whether tiles fill the view down to its edge, or to the end of what is loaded. */
      const isFilled = () => {
        const bottoms = tiles().map((tile) => tile.getBoundingClientRect().bottom)
        const end = scroller.firstElementChild.getBoundingClientRect().bottom
        return Math.max(0, ...bottoms) >= Math.min(end, scroller.getBoundingClientRect().bottom) - 1
      }
      while (ids.size < rows && stuck < 600) {
        const start = performance.now()
        const before = scroller.scrollTop
        scroller.scrollTop += scroller.clientHeight
        stuck = scroller.scrollTop === before ? stuck + 1 : 0
        do await frame()
        while (!isFilled())
        frames.push(performance.now() - start)
        most = Math.max(most, tiles().length)
        tiles().forEach((tile) => ids.add(tile.dataset.id))
      }
      frames.sort((a, b) => a - b)
      const at = (part) => Math.round(frames[Math.floor(frames.length * part)])
      return { count: ids.size, most, filledAfterMs: { median: at(0.5), p95: at(0.95), worst: at(0.9999) } }
    },
    ROWS,
  )
  console.log(JSON.stringify(seen))
  assert.equal(seen.count, ROWS)
  assert.ok(seen.most < 200, `${seen.most} tiles at once`)
  assert.deepEqual(faults, [])
})
