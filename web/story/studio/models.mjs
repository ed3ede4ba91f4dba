// LoRA and base models from elsewhere, and what fails with them.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { writeBadLora } from '../for-story.mjs'
import { look } from '../pages.mjs'
import { ask, generate, goTo, hub, page, server } from './stage.mjs'

test('a LoRA for another model is refused with the reason', async () => {
  await goTo('Models')
  await page.locator('input[type=file]').setInputFiles(writeBadLora(server.folder))
  const row = page.getByTestId('import')
  await row.getByRole('alert').waitFor()
  const refusal = await row.getByRole('alert').textContent()
  assert.match(refusal, /1 tensor that fits nowhere, the first is `nobody_knows\.weight`, beside 2 in effect/)
  await row.getByRole('button', { name: 'Import what fits' }).click()
  await row.getByText(/2 tensors in effect, 0 without effect, 1 unknown/).waitFor()
  await page.getByTestId('lora').filter({ hasText: 'for-another-model' }).getByRole('button', { name: 'Use it' }).click()
  await page.getByRole('slider', { name: 'Weight of for-another-model' }).waitFor()
})

test('a job that fails says why, and its log tells the way there', async () => {
  const { id } = (await ask('GET', '/api/models')).find((lora) => lora.name === 'for-another-model')
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
  // The hub holds the other half back.
  await page.waitForFunction((element) => Number(element.getAttribute('aria-valuenow')) > 40, await bar.elementHandle())
  assert.ok(Number(await bar.getAttribute('aria-valuenow')) < 60)
  await page.reload()
  await bar.waitFor()
  await look(page, 'models-installing')
  await row.getByRole('button', { name: 'Stop installing owner/icons' }).click()
  await row.waitFor({ state: 'detached' })
  await install('owner/icons')
  await bar.waitFor()
  hub.release()
  const card = page.getByTestId('base').filter({ hasText: 'owner/icons' })
  await card.getByText(/^\d+ MBas a whole$/).waitFor()
  await row.waitFor({ state: 'detached' })
  await look(page, 'models-installed')
  await card.getByRole('button', { name: 'Use it' }).click()
  await generate('orange fish, noto style')
  await page.getByRole('img', { name: 'orange fish, noto style' }).waitFor()
  await goTo('Models')
  const starter = page.getByTestId('base').filter({ hasText: 'starter' })
  await card.getByRole('button', { name: 'Make it the default' }).click()
  await card.getByText('Default', { exact: true }).waitFor()
  assert.equal((await ask('GET', '/api/system')).base_model, (await ask('GET', '/api/models/base')).find((base) => base.is_default).id)
  await starter.getByRole('button', { name: 'Make it the default' }).click()
  await starter.getByText('Default', { exact: true }).waitFor()
  await card.getByRole('button', { name: 'Remove owner/icons' }).click()
  await page.getByLabel('Erase its downloaded files, too').check()
  await look(page, 'models-remove')
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click()
  await card.waitFor({ state: 'detached' })
  await page.getByText('“owner/icons” removed').waitFor()
})
