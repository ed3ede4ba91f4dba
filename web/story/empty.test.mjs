// A studio in which nothing is yet, and one whose server answers nothing: each page says what to do.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { launch, open } from './browser.mjs'
import { look, lookAt } from './pages.mjs'
import { startServer } from './server.mjs'

const PAGES = { generate: '/', gallery: '/gallery', train: '/train', 'training-new': '/train/new', models: '/models', system: '/system' }

let server, browser

before(async () => {
  ;[server, browser] = await Promise.all([startServer({ flags: ['--no-worker'] }), launch()])
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

test('pages without anything are accessible and fit their screens', async () => {
  await lookAt(browser, server.address, Object.fromEntries(Object.entries(PAGES).map(([name, path]) => [`empty-${name}`, path])))
})

test('so are pages that wait, and pages whose server answers nothing', async () => {
  for (const [name, path] of Object.entries(PAGES)) {
    const { context, page } = await open(browser, server.address)
    const held = []
    let isAway = false
    await context.route('**/api/**', (route) => (isAway ? route.abort() : held.push(route)))
    await page.goto(path)
    await page.getByRole('main').locator('.breathes').first().waitFor()
    await look(page, `waiting-${name}`)
    isAway = true
    await Promise.all(held.map((route) => route.abort()))
    await page.getByText('The server cannot be reached').first().waitFor({ timeout: 60_000 })
    assert.equal(await page.getByRole('alert').count(), 1, `${name} says it once`)
    await look(page, `failed-${name}`)
    await context.close()
  }
})
