// Every page in every dress: looked through by axe-core, and kept as a picture in screenshots/.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { open, SIZES } from './browser.mjs'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const FOLDER = join(import.meta.dirname, '../screenshots')
const GRAVE = ['serious', 'critical']
const DRESSES = [
  { name: 'dark', size: SIZES.wide, scheme: 'dark' },
  { name: 'light', size: SIZES.wide, scheme: 'light' },
  { name: 'phone', size: SIZES.phone, scheme: 'dark' },
]

/** What axe-core finds serious on the page as it is. */
export async function gravities(page) {
  await page.evaluate(AXE)
  const { violations } = await page.evaluate(() => globalThis.axe.run())
  return violations
    .filter((violation) => GRAVE.includes(violation.impact))
    .flatMap((violation) => violation.nodes.map((node) => `${violation.id}: ${node.target.join(' ')} ${node.failureSummary}`))
}

/** Whether all that was asked for is there. */
const isSettled = () =>
  !document.querySelector('.breathes') &&
  [...document.images].every((image) => image.complete || image.loading === 'lazy')

/** Whether the page is wider than the screen. */
const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)

/** Pictures that take no room. */
const invisible = (page) =>
  page.evaluate(() => [...document.querySelectorAll('main img')].filter((image) => image.clientWidth * image.clientHeight === 0).map((image) => image.src))

/** The page as it is, in the middle of a story. */
export async function look(page, name) {
  mkdirSync(FOLDER, { recursive: true })
  assert.deepEqual(await gravities(page), [], name)
  await page.screenshot({ path: join(FOLDER, `${name}.png`) })
}

/** `pages`: name → address. */
export async function lookAt(browser, address, pages) {
  mkdirSync(FOLDER, { recursive: true })
  for (const dress of DRESSES) {
    const { context, page, faults } = await open(browser, address, dress)
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(path)
      await page.getByRole('heading').first().waitFor({ state: 'attached' })
      await page.waitForFunction(isSettled)
      await page.evaluate(() => document.fonts.ready)
      await page.screenshot({ path: join(FOLDER, `${name}-${dress.name}.png`) })
      assert.deepEqual(await gravities(page), [], `${name}, ${dress.name}`)
      assert.deepEqual(await invisible(page), [], `${name}, ${dress.name}`)
      assert.ok((await overflow(page)) <= 0, `${name} is wider than a ${dress.name} screen`)
    }
    assert.deepEqual(faults, [])
    await context.close()
  }
}
