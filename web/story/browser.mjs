// Debian's Chromium, driven by playwright-core; nothing is downloaded, nothing leaves this machine.
import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export const SIZES = { wide: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } }

export async function launch() {
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing; install the package chromium`)
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
}

/** A page of its own that notes what went wrong in it. */
export async function open(browser, address, { size = SIZES.wide, scheme = 'dark' } = {}) {
  const context = await browser.newContext({ viewport: size, colorScheme: scheme, baseURL: address })
  const page = await context.newPage()
  const faults = []
  page.on('pageerror', (error) => faults.push(String(error)))
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(message.text())
  })
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url())
    if (protocol.startsWith('http') && origin !== address) faults.push(`asked elsewhere: ${request.url()}`)
  })
  return { context, page, faults }
}

/**
 * Watches an element from before `action` on, so that what is to be read there for a moment only is not missed: the
 * returned function waits until `pattern` was seen.
 */
export async function seen(page, testId, pattern, action) {
  await page.evaluate(
    ([id, source]) => {
      globalThis.wasSeen = false
      const watch = new MutationObserver(() => {
        const shown = [...document.querySelectorAll(`[data-testid=${id}]`)].map((element) => element.textContent)
        if (!shown.some((words) => new RegExp(source).test(words))) return
        globalThis.wasSeen = true
        watch.disconnect()
      })
      watch.observe(document.body, { subtree: true, childList: true, characterData: true })
    },
    [testId, pattern.source],
  )
  await action()
  return () => page.waitForFunction(() => globalThis.wasSeen)
}
