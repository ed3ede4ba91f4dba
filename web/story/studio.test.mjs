// The studio as a person meets it: one browser, the real server, the starter model.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import { launch, open, SIZES } from './browser.mjs'
import { BLUEPRINT, namesInZip, writeBadLora } from './for-story.mjs'
import { startHub } from './hub.mjs'
import { look, lookAt } from './pages.mjs'
import { startServer } from './server.mjs'

const PROMPT = 'red apple, noto style'
let hub, server, browser, context, page, faults
/** Addresses that the story comes upon. */
const found = {}

before(async () => {
  hub = await startHub()
  ;[server, browser] = await Promise.all([startServer({ variables: { HF_ENDPOINT: hub.address } }), launch()])
  ;({ context, page, faults } = await open(browser, server.address))
  page.setDefaultTimeout(20_000)
})
after(async () => {
  await browser?.close()
  await server?.stop()
  hub?.stop()
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
  await page.getByRole('button', { name: PROMPT }).click()
  assert.equal(await prompt().inputValue(), PROMPT)
  await page.getByText(/^\d+ of \d+ tokens$/).waitFor()
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

test('a training is saved, paused and resumed, and shows its loss and a sample', async () => {
  const steps = 60 // enough for a hand to pause between two of them
  await page.getByRole('button', { name: 'Train on it' }).click()
  await page.getByRole('textbox', { name: 'Steps', exact: true }).fill(String(steps))
  await page.getByText('Expert settings').click()
  await page.getByLabel('Sample every (steps)').fill(String(steps / 2))
  await page.getByLabel(/^Sample prompts/).fill('bus, TOK style')
  await page.getByRole('button', { name: 'Start training' }).click()
  const status = page.getByTestId('status')
  const at = async () => Number(/step (\d+) of \d+/.exec(await status.textContent())?.[1])
  await page.getByTestId('loss').waitFor({ timeout: 60_000 })
  await page.getByRole('button', { name: 'Save now' }).click()
  await page.getByTestId('checkpoints').getByText(/^Step \d+$/).first().waitFor()
  await page.getByRole('button', { name: 'Pause' }).click()
  await status.getByText(/^Paused/).waitFor()
  const paused = await at()
  assert.ok(paused > 0 && paused < steps, `paused at step ${paused}`)
  await page.getByRole('button', { name: 'Resume' }).click()
  await page.getByTestId('samples').getByText(`Step ${steps / 2}`).waitFor({ timeout: 60_000 })
  await page.getByText(`Finished · step ${steps} of ${steps}`).waitFor({ timeout: 60_000 })
  await page.getByRole('img', { name: new RegExp(`^Loss over ${steps} steps`) }).waitFor()
  found.training = new URL(page.url()).pathname
})

test('the LoRA of a training draws', async () => {
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
})

test('a job that fails says why, and its log tells the way there', async () => {
  const { id } = (await (await fetch(`${server.address}/api/models`)).json()).find((lora) => lora.name === 'for-another-model')
  rmSync(join(server.folder, 'files/models', id), { recursive: true })
  await generate('a job without its LoRA')
  await page.getByText('This picture failed').waitFor()
  await page.getByRole('button', { name: 'Remove for-another-model' }).click()
  await goTo('Queue')
  const row = page.getByTestId('failed')
  await row.getByText('a job without its LoRA').waitFor()
  await row.getByRole('button', { name: 'Log' }).click()
  await row.getByText('processing', { exact: true }).waitFor()
  await row.getByRole('button', { name: 'Delete' }).click()
  await page.getByText('No job has failed').waitFor()
})

test('a base model is installed while one watches, draws, and leaves again', async () => {
  await goTo('Models')
  const repo = page.getByLabel('Name of a base model on Hugging Face')
  const install = async (name) => {
    await repo.fill(name)
    await page.getByRole('button', { name: 'Install', exact: true }).click()
  }
  await install('owner/nothing')
  await page.getByText(/`owner\/nothing` cannot be downloaded.* it has no revision `main`/).waitFor()
  await install('owner/icons')
  const row = page.getByTestId('install')
  await row.getByText(/^\d+\.\d MB of 29\.\d MB\s+·\s+transformer/).waitFor()
  const bar = row.getByRole('progressbar', { name: 'Installing owner/icons' })
  const percent = Number(await bar.getAttribute('aria-valuenow'))
  assert.ok(percent > 10 && percent < 90, `${percent}`)
  await page.reload()
  await bar.waitFor()
  await look(page, 'models-installing')
  await row.getByRole('button', { name: 'Stop installing owner/icons' }).click()
  await row.waitFor({ state: 'detached' })
  await install('owner/icons')
  await bar.waitFor()
  hub.release()
  const card = page.getByTestId('base').filter({ hasText: 'owner/icons' })
  await card.getByText(/^Memory: \d+ MB as a whole/).waitFor()
  await row.waitFor({ state: 'detached' })
  await look(page, 'models-installed')
  await card.getByRole('button', { name: 'Use it' }).click()
  await generate('orange fish, noto style')
  await page.getByRole('img', { name: 'orange fish, noto style' }).waitFor()
  await goTo('Models')
  await card.getByRole('button', { name: 'Remove owner/icons' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click()
  await card.waitFor({ state: 'detached' })
  await page.getByText('“owner/icons” removed').waitFor()
})

const queued = () => page.getByTestId('queued')

/** Waits until the page and the server have this order, told by first words. */
async function settled(expected) {
  await page.waitForFunction(
    async (words) => {
      const isOrder = (prompts) => words.every((word, i) => prompts[i]?.startsWith(word)) && prompts.length === words.length
      const shown = [...document.querySelectorAll('[data-testid=queued] p:first-child')].map((line) => line.textContent)
      const jobs = await (await fetch('/api/generate?status=pending')).json()
      const served = jobs.sort((a, b) => a.queue_position - b.queue_position).map((job) => job.prompt)
      return isOrder(shown) && isOrder(served)
    },
    expected,
    { polling: 100 },
  )
}

test('the order of a paused queue is changed by hand and by keyboard', async () => {
  await goTo('Queue')
  await page.getByRole('button', { name: 'Pause the queue' }).click()
  await page.getByText('The queue is paused.').waitFor()
  await goTo('Generate')
  for (const words of ['yellow star, noto style', 'green tree, noto style', 'brown dog, noto style']) {
    await generate(words)
    await page.getByText(words, { exact: true }).first().waitFor()
  }
  await goTo('Queue')
  await queued().nth(2).waitFor()
  await settled(['yellow', 'green', 'brown'])
  const handle = (words) => page.getByRole('button', { name: `Move: ${words}` })
  const first = await handle('yellow star').boundingBox()
  await handle('brown dog').hover()
  await page.mouse.down()
  await page.mouse.move(first.x + 5, first.y + 5, { steps: 5 })
  await page.mouse.up()
  await settled(['brown', 'yellow', 'green'])
  await handle('brown dog').focus()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('ArrowDown')
  await settled(['yellow', 'green', 'brown'])
  await queued().nth(1).getByRole('button', { name: 'Run next' }).click()
  await settled(['green', 'yellow', 'brown'])
})

test('the page goes on by itself when the server dies and comes back', async () => {
  const lost = page.getByText('The connection to the server is lost.')
  await page.evaluate(() => (globalThis.isSamePage = true))
  await server.kill()
  await lost.waitFor()
  await server.start()
  await lost.waitFor({ state: 'detached' })
  await settled(['green', 'yellow', 'brown'])
  faults.length = 0 // the browser notes each try that failed meanwhile
  await page.getByRole('button', { name: 'Resume the queue' }).click()
  await page.getByText('Nothing is running or waiting').waitFor()
  await goTo('Generate')
  // Steps are seen for a fifth of a second only: the eye must be there before them.
  await Promise.all([page.getByTestId('progress').getByText(/^Step \d+ of 30/).waitFor(), generate('orange fish, noto style')])
  await page.getByRole('img', { name: 'orange fish, noto style' }).waitFor()
  assert.equal(await page.evaluate(() => globalThis.isSamePage), true)
  await goTo('Queue')
})

test('on a touch screen a finger goes to the next picture', async () => {
  const phone = await browser.newContext({ viewport: SIZES.phone, hasTouch: true, isMobile: true, baseURL: server.address })
  const other = await phone.newPage()
  await other.goto(found.picture)
  const picture = (name) => other.getByRole('dialog', { name: 'Picture' }).getByRole('img', { name })
  await picture(PROMPT).waitFor()
  await other.getByRole('button', { name: 'Previous picture' }).waitFor()
  const { x, y, width, height } = await picture(PROMPT).boundingBox()
  const touch = await phone.newCDPSession(other)
  const at = (part) => [{ x: x + part * width, y: y + height / 2 }]
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: at(0.2) })
  await touch.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: at(0.8) })
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
  await picture('cat, TOK style').waitFor()
  await phone.close()
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
  await other.getByText('Nothing is running or waiting').waitFor()
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
