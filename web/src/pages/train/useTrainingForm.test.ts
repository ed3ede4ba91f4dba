import { expect, it } from 'vitest'

import { bodyOf, type TrainingForm } from './useTrainingForm'

const form: TrainingForm = {
  name: ' My dog ',
  dataset: 'd',
  base: 'starter',
  trigger: '',
  steps: 300,
  prompts: '',
  expert: {},
}

it('what was not touched is left to the server', () => {
  const body = bodyOf({ ...form, expert: { seed: ' ', lr_scheduler: '' } })
  expect(body).toEqual({ name: 'My dog', dataset_id: 'd', base_model: 'starter', trigger_word: null, steps: 300 })
})

it('what was said is sent', () => {
  const expert = { network_dim: '8', seed: '0', learning_rate: '1e-3', lr_scheduler: 'cosine' }
  const body = bodyOf({ ...form, prompts: 'a dog\n\n a cat ', expert })
  expect(body).toMatchObject({ network_dim: 8, seed: 0, learning_rate: 0.001, lr_scheduler: 'cosine' })
  expect(body.sample_prompts).toEqual(['a dog', 'a cat'])
  expect(body).not.toHaveProperty('network_alpha')
})
