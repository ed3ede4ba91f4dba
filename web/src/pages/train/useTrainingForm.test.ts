import { expect, it } from 'vitest'

import type { Training } from '@/api/trainings'

import { formLike } from './likeTraining'
import { bodyOf, type TrainingForm } from './useTrainingForm'

const form: TrainingForm = {
  name: ' My dog ',
  dataset: 'd',
  base: 'starter',
  trigger: '',
  steps: 300,
  prompts: '',
  expert: {},
  config: {},
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

it('a training is repeated as it was, what the form has no fields for included', () => {
  const recipe = {
    trigger: 'TOK',
    targets: 'attention',
    size: { rank: 8, alpha: 4 },
    steps: 60,
    schedule: { learning_rate: 0.001, warmup_steps: 6, decay: 'cosine' },
    optimizer: { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0001 },
    batch: 8,
    accumulation: 1,
    max_grad_norm: 1,
    resolution: 128,
    caption_dropout: 0,
    ema_decay: 0,
    guidance: 3.5,
    prior_pictures: 0,
    dtype: 'bf16',
    seed: 7,
  }
  const parameters = { recipe, save_every: 100, sample_every: 12, sample_prompts: ['bus, TOK style', 'cat, TOK style'] }
  const training = { name: 'Blueprint', dataset_id: 'd', base_model: 'starter', trigger_word: 'TOK', total_steps: 60, parameters }
  expect(bodyOf(formLike(training as unknown as Training))).toEqual({
    name: 'Blueprint',
    dataset_id: 'd',
    base_model: 'starter',
    trigger_word: 'TOK',
    steps: 60,
    sample_prompts: ['bus, TOK style', 'cat, TOK style'],
    network_dim: 8,
    network_alpha: 4,
    learning_rate: 0.001,
    lr_scheduler: 'cosine',
    warmup_steps: 6,
    batch_size: 8,
    gradient_accumulation: 1,
    resolution: 128,
    target_modules: 'attention',
    caption_dropout: 0,
    seed: 7,
    save_every: 100,
    sample_every: 12,
    config: { ...recipe.optimizer, max_grad_norm: 1, ema_decay: 0, guidance: 3.5, prior_pictures: 0, dtype: 'bf16' },
  })
})
