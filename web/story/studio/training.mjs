// Photos become a dataset, and the dataset a LoRA that draws.
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { BLUEPRINT } from '../for-story.mjs'
import { found, generate, goTo, inOther, page, server } from './stage.mjs'

test('a dataset takes photos with captions and says what it cannot take', async () => {
  await goTo('Train')
  await page.getByRole('button', { name: 'New dataset' }).first().click()
  await page.getByLabel('Name').fill('Blueprint')
  await page.getByLabel(/Trigger word/).fill('TOK')
  await page.getByRole('button', { name: 'Create' }).click()
  const noPicture = join(server.folder, 'notes.png')
  writeFileSync(noPicture, 'no picture')
  const files = readdirSync(BLUEPRINT).map((name) => join(BLUEPRINT, name))
  await page.getByText('No pictures yet').waitFor()
  await page.locator('input[type=file]').setInputFiles([...files, noPicture])
  await page.getByText('25 uploads done, 1 rejected').waitFor()
  await page.getByText(/^notes\.png: is no picture/).waitFor()
  assert.equal(await page.getByTestId('image').count(), 24)
  found.dataset = new URL(page.url()).pathname
})

test('a caption that was changed stays changed', async () => {
  const caption = page.getByLabel('Caption of banana.png')
  await caption.fill('a ripe banana, TOK style')
  await caption.blur()
  await page.getByText('Saved').waitFor()
  await page.reload()
  await page.getByText('24 pictures, by training size').waitFor()
  assert.equal(await page.getByLabel('Caption of banana.png').inputValue(), 'a ripe banana, TOK style')
  await page.getByRole('button', { name: 'Edit captions' }).click()
  await page.getByLabel('Put before', { exact: true }).fill('drawing of ')
  await page.getByRole('button', { name: 'Change captions' }).click()
  await page.getByText('24 captions changed').waitFor()
})

test('what changes in a dataset is seen in every tab', async () => {
  await inOther(async (other) => {
    await other.goto(found.dataset)
    const there = other.getByLabel('Caption of banana.png')
    await there.waitFor()
    const here = page.getByLabel('Caption of banana.png')
    const words = 'a ripe banana, TOK style, seen in both tabs'
    await here.fill(words)
    await here.blur()
    await other.waitForFunction(([field, wanted]) => field.value === wanted, [await there.elementHandle(), words])
  })
})

const status = () => page.getByTestId('status')
const field = (name) => page.getByRole('textbox', { name, exact: true })

test('a training is saved, paused, resumed and called off', async () => {
  const steps = 5000 // more than are done before a hand has pressed the buttons
  await page.getByRole('button', { name: 'Train on it' }).click()
  await field('Steps').fill(String(steps))
  await page.getByText('Expert settings').click()
  await page.getByLabel(/^Sample prompts/).fill('bus, TOK style')
  await page.getByRole('button', { name: 'Start training' }).click()
  const at = async () => Number(/step ([\d,]+) of 5,000/.exec(await status().textContent())?.[1].replace(',', ''))
  await page.getByTestId('loss').waitFor()
  await page.getByRole('button', { name: 'Save now' }).click()
  await page.getByTestId('checkpoints').getByText(/^Step [\d,]+$/).first().waitFor()
  await page.getByRole('button', { name: 'Pause' }).click()
  await status().getByText(/^Paused/).waitFor()
  const paused = await at()
  assert.ok(paused > 0 && paused < steps, `paused at step ${paused}`)
  await page.getByRole('button', { name: 'Resume' }).click()
  await status().getByText(/^Training/).waitFor()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await status().getByText(/^Cancelled/).waitFor()
})

test('it is begun again with other steps, and shows its loss and a sample', async () => {
  const steps = 24
  await page.getByRole('button', { name: 'Train again' }).click()
  await page.getByText(/^Filled with the settings of “Blueprint”/).waitFor()
  assert.equal(await field('Steps').inputValue(), '5000')
  assert.equal(await page.getByLabel(/^Sample prompts/).inputValue(), 'bus, TOK style')
  await field('Steps').fill(String(steps))
  await page.getByLabel('Sample every (steps)').fill(String(steps / 2))
  await page.getByLabel('Warm-up steps').fill('2')
  await page.getByRole('button', { name: 'Start training' }).click()
  await page.getByTestId('samples').getByText(`Step ${steps / 2}`).waitFor()
  await page.getByText(`Finished · step ${steps} of ${steps}`).waitFor()
  await page.getByRole('img', { name: new RegExp(`^Loss over ${steps} steps`) }).waitFor()
  found.training = new URL(page.url()).pathname
})

test('a part of the loss curve is looked at, by hand and by keyboard', async () => {
  const shown = page.getByTestId('range')
  await shown.getByText('Steps 1 to 24').waitFor()
  await page.getByRole('slider', { name: 'First step shown' }).focus()
  await page.keyboard.press('ArrowRight')
  await shown.getByText('Steps 2 to 24').waitFor()
  await page.getByRole('button', { name: 'Show all' }).click()
  await shown.getByText('Steps 1 to 24').waitFor()
  const curve = page.getByTestId('loss').locator('.u-over')
  const { x, y, width, height } = await curve.boundingBox()
  await page.mouse.move(x + width / 4, y + height / 2)
  await page.mouse.down()
  await page.mouse.move(x + width / 2, y + height / 2, { steps: 5 })
  await page.mouse.up()
  await shown.getByText(/^Steps [67] to 1[23]$/).waitFor()
})

test('the LoRA of a training draws', async () => {
  await page.getByRole('button', { name: 'Generate with it' }).click()
  await page.getByRole('slider', { name: 'Weight of Blueprint' }).waitFor()
  await page.getByRole('button', { name: 'A random seed each time' }).click()
  await generate('cat, TOK style')
  await page.getByRole('img', { name: 'cat, TOK style' }).waitFor()
  await page.getByRole('button', { name: 'Remove Blueprint' }).click()
})
