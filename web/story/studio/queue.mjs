// The order of the queue, and a server that dies and comes back.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { seen } from '../browser.mjs'
import { ask, faults, found, generate, goTo, page, server } from './stage.mjs'

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
  await queued().nth(1).getByRole('button', { name: /^Run next/ }).click()
  await settled(['green', 'yellow', 'brown'])
})

test('trainings wait in an order of their own, which is changed likewise', async () => {
  const dataset_id = found.dataset.split('/').pop()
  const begin = async (name) => (await ask('POST', '/api/training/flux', { name, dataset_id, steps: 10 })).session_id
  const ids = [await begin('First'), await begin('Second')]
  const positions = () => Promise.all(ids.map(async (id) => (await ask('GET', `/api/training/${id}`)).queue_position))
  const rows = page.getByRole('list', { name: 'Waiting trainings' }).getByTestId('queued')
  await rows.nth(1).waitFor()
  assert.deepEqual(await positions(), [0, 1])
  await page.getByRole('button', { name: 'Move: Second' }).focus()
  await page.keyboard.press('ArrowUp')
  while ((await positions()).join() !== '1,0') await page.waitForTimeout(50)
  await rows.nth(0).getByText('Training: Second').waitFor()
  await rows.nth(0).getByText('Next in the queue').waitFor()
  await page.getByRole('button', { name: 'Cancel: First' }).click()
  await page.getByRole('button', { name: 'Cancel: Second' }).click()
  await rows.nth(0).waitFor({ state: 'detached' })
  for (const id of ids) await ask('DELETE', `/api/training/${id}`)
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
  const step = await seen(page, 'progress', /Step \d+ of 30/, () => generate('orange fish, noto style'))
  await step()
  await page.getByRole('img', { name: 'orange fish, noto style' }).waitFor()
  assert.equal(await page.evaluate(() => globalThis.isSamePage), true)
  await goTo('Queue')
})
