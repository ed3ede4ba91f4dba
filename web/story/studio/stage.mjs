// One browser, one server, and what every chapter does with them.
import { after, before } from 'node:test'

import { launch, open } from '../browser.mjs'
import { startHub } from '../hub.mjs'
import { startServer } from '../server.mjs'

export const PROMPT = 'red apple, noto style'
/** What a slow machine may take for what is waited for. */
const PATIENCE_MS = 60_000

export let hub, server, browser, context, page, faults
/** Addresses that the story comes upon. */
export const found = {}

before(async () => {
  hub = await startHub()
  ;[server, browser] = await Promise.all([startServer({ variables: { HF_ENDPOINT: hub.address } }), launch()])
  ;({ context, page, faults } = await open(browser, server.address))
  page.setDefaultTimeout(PATIENCE_MS)
})
after(async () => {
  await browser?.close()
  await server?.stop()
  hub?.stop()
})

export const goTo = (name) => page.getByRole('navigation').getByRole('link', { name }).click()
export const prompt = () => page.getByLabel('Prompt', { exact: true })
export const tiles = () => page.getByTestId('gallery').getByRole('listitem')

export async function generate(words) {
  await prompt().fill(words)
  await page.keyboard.press('Control+Enter')
}

/** A page of its own that ends with `run`. */
export async function inOther(run, made = context.newPage()) {
  const other = await made
  other.setDefaultTimeout(PATIENCE_MS)
  await run(other)
  await other.close()
}

/** The server's answer. */
export async function ask(method, path, body) {
  const headers = { 'content-type': 'application/json' }
  const answered = await fetch(`${server.address}${path}`, { method, headers, body: body && JSON.stringify(body) })
  if (!answered.ok) throw new Error(`${method} ${path}: ${answered.status} ${await answered.text()}`)
  return answered.status === 204 ? null : answered.json()
}
