// A prompt becomes a picture, and what one does with pictures.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { seen } from '../browser.mjs'
import { namesInZip } from '../for-story.mjs'
import { found, generate, goTo, page, PROMPT, prompt, tiles } from './stage.mjs'

test('a prompt becomes a picture while one watches', async () => {
  await page.goto('/')
  await page.getByText('Nothing drawn yet').waitFor()
  const step = await seen(page, 'progress', /Step \d+ of 30/, () => page.getByRole('button', { name: PROMPT }).click())
  await step()
  assert.equal(await prompt().inputValue(), PROMPT)
  await page.getByText(/^\d+ of \d+ tokens$/).waitFor()
  await page.getByRole('img', { name: PROMPT }).waitFor()
})

test('a prompt that is too long is marked where it is cut', async () => {
  await prompt().fill(`${'many small words about nothing '.repeat(60)}ending here`)
  await page.getByText(/It will not read: “.*words about/).waitFor()
})

test('a favourite is found in the gallery by search', async () => {
  await page.getByRole('button', { name: 'Add to favourites' }).click()
  await generate('blue rocket, fluent style')
  await page.getByRole('img', { name: 'blue rocket, fluent style' }).waitFor()
  await goTo('Gallery')
  await tiles().nth(1).waitFor()
  await page.getByLabel('Search in prompts').fill('APPLE')
  await tiles().nth(1).waitFor({ state: 'detached' })
  await page.getByLabel('Search in prompts').fill('')
  await tiles().nth(1).waitFor()
  await page.getByRole('button', { name: 'Favourites', exact: true }).click()
  await tiles().nth(1).waitFor({ state: 'detached' })
  assert.match(await tiles().getByRole('button').first().getAttribute('aria-label'), /red apple/)
})

test('the gallery is filtered by state and by days, also by an address that one was sent', async () => {
  await page.getByRole('button', { name: 'Clear' }).click()
  await tiles().nth(1).waitFor()
  const today = new Date().toLocaleDateString('sv')
  await page.getByRole('combobox', { name: 'Time' }).click()
  await page.getByRole('option', { name: 'Between days' }).click()
  await page.getByLabel('To this day').fill('2020-01-01')
  await page.getByText('No picture found').waitFor()
  await page.getByLabel('To this day').fill(today)
  await tiles().nth(1).waitFor()
  await page.goto('/gallery?status=pending')
  await page.getByText('No picture found').waitFor()
  assert.match(await page.getByRole('combobox', { name: 'Status' }).textContent(), /Waiting/)
  await page.goto('/gallery?favorite=yes')
  await tiles().first().waitFor()
})

test('arrow keys go from picture to picture', async () => {
  const rocket = 'blue rocket, fluent style'
  const inDetail = (name) => page.getByRole('dialog', { name: 'Picture' }).getByRole('img', { name })
  await page.getByRole('button', { name: 'Favourites', exact: true }).click()
  await tiles().nth(1).waitFor()
  await tiles().getByRole('button', { name: `Finished: ${rocket}` }).click()
  await inDetail(rocket).waitFor()
  await page.keyboard.press('ArrowRight')
  await inDetail(PROMPT).waitFor()
  await page.keyboard.press('ArrowLeft')
  await inDetail(rocket).waitFor()
  await page.keyboard.press('Escape')
  await goTo('Generate')
  await page.getByRole('main').getByRole('img', { name: rocket }).waitFor()
  await page.keyboard.press('ArrowRight')
  await page.getByRole('main').getByRole('img', { name: PROMPT }).waitFor()
})

/** How much of the left of two compared pictures is seen, in percent. */
const seenLeft = async () => {
  const clip = await page.getByRole('dialog', { name: 'Compare' }).getByRole('img').nth(1).evaluate((image) => image.style.clipPath)
  return 100 - Number(/inset\(0(?:px)? ([\d.]+)%/.exec(clip)?.[1])
}

test('two pictures are compared, from Generate and from the gallery', async () => {
  await page.getByRole('main').getByRole('button', { name: 'More' }).click()
  await page.getByRole('menuitem', { name: 'Compare with another' }).click()
  await page.getByText('Choose the picture to compare with').waitFor()
  await page.getByRole('button', { name: 'Finished: blue rocket, fluent style' }).click()
  const split = page.getByRole('slider', { name: /left picture/ })
  await split.focus()
  assert.equal(await seenLeft(), 50)
  await page.keyboard.press('End')
  assert.equal(await seenLeft(), 100)
  await page.keyboard.press('Escape')
  await goTo('Gallery')
  await page.getByRole('button', { name: 'Select', exact: true }).click()
  for (const name of [PROMPT, 'blue rocket, fluent style']) await page.getByRole('checkbox', { name: `Select: ${name}` }).click()
  await page.getByRole('button', { name: 'Compare' }).click()
  assert.equal(await page.getByRole('dialog', { name: 'Compare' }).getByRole('img').count(), 2)
  await page.keyboard.press('Escape')
})

test('the chosen pictures are downloaded as one zip', async () => {
  const download = page.waitForEvent('download')
  await page.getByRole('region', { name: 'Selection' }).getByRole('button', { name: 'Download' }).click()
  assert.deepEqual(namesInZip(readFileSync(await (await download).path())).map((name) => name.slice(-4)), ['.png', '.png'])
  await page.getByRole('button', { name: 'End the selection' }).click()
})

test('its parameters are used again, seed and all', async () => {
  await tiles().getByRole('button', { name: `Finished: ${PROMPT}` }).click()
  const seed = await page.locator('dt:text-is("Seed") + dd').textContent()
  found.picture = new URL(page.url()).pathname
  await page.getByRole('button', { name: 'Open in Generate' }).click()
  assert.equal(await prompt().inputValue(), PROMPT)
  assert.equal(await page.getByLabel('Seed', { exact: true }).inputValue(), seed)
})

test('a deleted picture can be brought back, and is gone for good otherwise', async () => {
  const rocket = page.getByRole('button', { name: 'Finished: blue rocket, fluent style' })
  await goTo('Gallery')
  const remove = async () => {
    await rocket.click({ modifiers: ['ControlOrMeta'] })
    await page.getByRole('region', { name: 'Selection' }).getByRole('button', { name: 'Delete' }).click()
    await rocket.waitFor({ state: 'detached' })
  }
  await remove()
  await page.getByRole('button', { name: 'Undo' }).click()
  await rocket.waitFor()
  await remove()
  await page.reload()
  await tiles().first().waitFor()
  assert.equal(await tiles().count(), 1)
})
