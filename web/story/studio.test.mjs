// The studio as a person meets it: one browser, the real server, the starter model.
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import { launch, open } from './browser.mjs'
import { BLUEPRINT, writeBadLora } from './for-story.mjs'
import { lookAt } from './pages.mjs'
import { startServer } from './server.mjs'

const PROMPT = 'red apple, noto style'
let server, browser, context, page, faults
/** Addresses that the story comes upon. */
const found = {}

before(async () => {
  ;[server, browser] = await Promise.all([startServer(), launch()])
  ;({ context, page, faults } = await open(browser, server.address))
  page.setDefaultTimeout(20_000)
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

const goTo = (name) => page.getByRole('navigation').getByRole('link', { name }).click()
const prompt = () => page.getByLabel('Prompt', { exact: true })
const tiles = () => page.getByTestId('gallery').getByRole('listitem')

async function generate(words) {
  await prompt().fill(words)
  await page.keyboard.press('Control+Enter')
}

test('a prompt becomes a picture while one watches', async () => {
  await page.goto('/')
  await page.getByText('Nothing drawn yet').waitFor()
  await prompt().fill(PROMPT)
  await page.getByText(/^\d+ of \d+ tokens$/).waitFor()
  await page.keyboard.press('Control+Enter')
  await page.getByTestId('progress').getByText(/^Step \d+ of 30/).waitFor()
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

test('its parameters are used again, seed and all', async () => {
  await tiles().getByRole('button', { name: /Finished/ }).click()
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

test('a training shows its loss and a sample, and its LoRA draws', async () => {
  await page.getByRole('button', { name: 'Train on it' }).click()
  await page.getByRole('textbox', { name: 'Steps', exact: true }).fill('8')
  await page.getByText('Expert settings').click()
  await page.getByLabel('Sample every (steps)').fill('4')
  await page.getByLabel(/^Sample prompts/).fill('bus, TOK style')
  await page.getByRole('button', { name: 'Start training' }).click()
  await page.getByTestId('loss').waitFor({ timeout: 60_000 })
  await page.getByTestId('samples').getByText('Step 4').waitFor({ timeout: 60_000 })
  await page.getByText('Finished · step 8 of 8').waitFor({ timeout: 60_000 })
  await page.getByRole('img', { name: /^Loss over 8 steps/ }).waitFor()
  found.training = new URL(page.url()).pathname
  await page.getByRole('button', { name: 'Generate with it' }).click()
  await page.getByRole('slider', { name: 'Weight of Blueprint' }).waitFor()
  await page.getByRole('button', { name: 'A random seed each time' }).click()
  await generate('cat, TOK style')
  await page.getByRole('img', { name: 'cat, TOK style' }).waitFor()
  await page.getByRole('button', { name: 'Remove Blueprint' }).click()
})

test('a LoRA for another model is refused with the reason', async () => {
  await goTo('Models')
  await page.locator('input[type=file]').setInputFiles(writeBadLora(server.folder))
  const row = page.getByTestId('import')
  await row.getByRole('alert').waitFor()
  const refusal = await row.getByRole('alert').textContent()
  assert.match(refusal, /1 tensors? that fits? nowhere, the first is `nobody_knows\.weight`/)
  await row.getByRole('button', { name: 'Import what fits' }).click()
  await row.getByText(/2 tensors in effect, 0 without effect, 1 unknown/).waitFor()
  await page.getByTestId('lora').filter({ hasText: 'for-another-model' }).getByRole('button', { name: 'Use it' }).click()
  await page.getByRole('slider', { name: 'Weight of for-another-model' }).waitFor()
  await page.getByRole('button', { name: 'Remove for-another-model' }).click()
})

test('a paused queue survives the death of the server, and so does the page', async () => {
  await goTo('Queue')
  await page.getByRole('button', { name: 'Pause the queue' }).click()
  await page.getByText('The queue is paused.').waitFor()
  await goTo('Generate')
  for (const words of ['yellow star, noto style', 'green tree, noto style']) {
    await generate(words)
    await page.getByText(words, { exact: true }).first().waitFor()
  }
  await goTo('Queue')
  const queued = page.getByTestId('queued')
  await queued.nth(1).waitFor()
  await queued.nth(1).getByRole('button', { name: 'Run next' }).click()
  await queued.first().getByText('green tree, noto style').waitFor()
  await server.kill()
  await page.getByText('The connection to the server is lost.').waitFor()
  await server.start()
  await page.getByText('The connection to the server is lost.').waitFor({ state: 'detached' })
  assert.equal(await queued.count(), 2)
  faults.length = 0 // the browser notes each try that failed meanwhile
  await page.getByRole('button', { name: 'Resume the queue' }).click()
  await page.getByText('Nothing runs and nothing waits').waitFor()
})

test('two tabs share one event stream', async () => {
  const count = async () => {
    const metrics = await (await fetch(`${server.address}/metrics`)).text()
    const line = metrics.split('\n').find((text) => text.includes('"/api/events"') && !text.startsWith('#'))
    return Number(line?.split(' ').pop())
  }
  const before = await count()
  const other = await context.newPage()
  await other.goto('/system')
  await other.getByText('Nothing runs and nothing waits').waitFor()
  await page.getByRole('button', { name: 'Pause the queue' }).click()
  await other.getByText('The queue is paused.').waitFor()
  await page.getByRole('button', { name: 'Resume the queue' }).click()
  await other.close()
  assert.equal(await count(), before)
})

test('nothing went wrong in the browser', () => {
  assert.deepEqual(faults, [])
})

test('every page is accessible and fits its screen, dark, light and on a phone', async () => {
  await lookAt(browser, server.address, {
    generate: '/',
    gallery: '/gallery',
    picture: found.picture,
    train: '/train',
    dataset: found.dataset,
    training: found.training,
    'training-new': '/train/new',
    models: '/models',
    system: '/system',
  })
})
