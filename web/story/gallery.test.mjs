// Ten thousand finished pictures, scrolled through from end to end: each is shown, none twice, and few are in the page
// at a time; and where one stops, the pictures come.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import { launch, open } from './browser.mjs'
import { startServer } from './server.mjs'

const ROWS = 10_000
const DRAWN = 24
const SUBJECTS = ['red apple', 'blue rocket', 'cat face', 'green tree', 'yellow star', 'house']

let server, browser

const post = (path, body) =>
  fetch(`${server.address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

/** Really drawn, each of another size. */
async function draw() {
  for (let i = 0; i < DRAWN; i += 1) {
    const prompt = `${SUBJECTS[i % SUBJECTS.length]}, noto style`
    const body = { prompt, width: 64 + 16 * (i % 8), height: 64 + 16 * (i % 5), num_inference_steps: 4 }
    assert.equal((await post('/api/generate/image', body)).status, 201)
  }
  const finished = async () => (await fetch(`${server.address}/api/generate?status=completed&limit=100`)).json()
  while ((await finished()).length < DRAWN) await new Promise((resolve) => setTimeout(resolve, 100))
}

before(async () => {
  ;[server, browser] = await Promise.all([startServer(), launch()])
  await draw()
  await server.kill()
  const script = join(import.meta.dirname, 'fill_gallery.py')
  const rows = execFileSync('python3', [script, join(server.folder, 'masuka.db'), String(ROWS)], { encoding: 'utf8' })
  assert.equal(Number(rows), ROWS)
  await server.start()
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

test('ten thousand pictures scroll by, none missing', async () => {
  const { page, faults } = await open(browser, server.address)
  await page.goto('/gallery')
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
  await page.waitForFunction(isDrawn)
  const scroller = page.getByTestId('gallery')
  for (const part of [0.5, 0]) {
    await scroller.evaluate((element, at) => (element.scrollTop = at * element.scrollHeight), part)
    await page.waitForTimeout(100)
    await page.waitForFunction(isDrawn)
  }
  assert.deepEqual(faults, [])
})

/** Whether every tile in view shows its thumbnail. */
const isDrawn = () => {
  const view = document.querySelector('[data-testid=gallery]').getBoundingClientRect()
  const tiles = [...document.querySelectorAll('[data-id]')].filter((tile) => {
    const box = tile.getBoundingClientRect()
    return box.bottom > view.top && box.top < view.bottom
  })
  return tiles.length > 0 && tiles.every((tile) => tile.querySelector('img')?.naturalWidth > 0)
}
