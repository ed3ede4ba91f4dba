// A server with a key asks for it once, and again where the key has become another.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { launch, open } from './browser.mjs'
import { lookAt } from './pages.mjs'
import { startServer } from './server.mjs'

let server, browser

before(async () => {
  const options = { variables: { MASUKA_API_KEY: 'open-sesame' }, flags: ['--no-worker'] }
  ;[server, browser] = await Promise.all([startServer(options), launch()])
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

test('the key opens the page that was asked for, another key opens nothing', async () => {
  const { page, context } = await open(browser, server.address)
  await page.goto('/system')
  await page.getByLabel('Key').fill('abracadabra')
  await page.getByRole('button', { name: 'Open the studio' }).click()
  await page.getByText('This is not the key of this server.').waitFor()
  await page.getByLabel('Key').fill('open-sesame')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Queue and system' }).waitFor()
  await page.getByText('No worker is running').waitFor()
  assert.equal(new URL(page.url()).pathname, '/system')
  await server.kill()
  await server.start({ MASUKA_API_KEY: 'close-sesame' })
  await page.getByRole('button', { name: 'Open the studio' }).waitFor()
  await page.getByLabel('Key').fill('close-sesame')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Queue and system' }).waitFor()
  await context.close()
})

test('the login page is accessible', async () => {
  await lookAt(browser, server.address, { login: '/login' })
})
