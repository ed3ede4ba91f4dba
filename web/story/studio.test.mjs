// The studio as a person meets it: one browser, the real server, the starter model.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { launch, open } from './browser.mjs'
import { startServer } from './server.mjs'

let server, browser, page, faults

before(async () => {
  ;[server, browser] = await Promise.all([startServer(), launch()])
  ;({ page, faults } = await open(browser, server.address))
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

test('a prompt becomes a picture while one watches', async () => {
  await page.goto('/')
  await page.getByText('Nothing drawn yet').waitFor()
  await page.getByLabel('Prompt', { exact: true }).fill('red apple, noto style')
  await page.getByText(/^\d+ of \d+ tokens$/).waitFor()
  await page.keyboard.press('Control+Enter')
  await page.getByTestId('progress').getByText(/^Step \d+ of 30/).waitFor()
  await page.getByRole('img', { name: 'red apple, noto style' }).waitFor()
  assert.deepEqual(faults, [])
})
