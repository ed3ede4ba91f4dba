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
  return { context, page, faults }
}
