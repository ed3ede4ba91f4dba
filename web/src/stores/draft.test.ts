import { createPinia, setActivePinia } from 'pinia'
import { beforeEach, expect, it } from 'vitest'

import type { BaseModel } from '@/api/client'
import { job } from '@/api/for-tests'

import { requestOf, useDraft } from './draft'

const base = (id: string, side: number) =>
  ({
    id,
    defaults: { width: side, height: side, num_inference_steps: 20, guidance_scale: 3.5 },
    limits: { samplers: ['euler', 'heun'], max_images: 4 },
  }) as unknown as BaseModel

beforeEach(() => {
  localStorage.clear()
  setActivePinia(createPinia())
})

it('another base model brings its defaults, the same one leaves what was chosen', () => {
  const store = useDraft()
  store.useBase(base('starter', 128))
  expect(store.draft).toMatchObject({ base: 'starter', width: 128, steps: 20, sampler: 'euler' })
  store.draft.width = 192
  store.useBase(base('starter', 128))
  expect(store.draft.width).toBe(192)
  store.useBase(base('large', 1024))
  expect(store.draft).toMatchObject({ base: 'large', width: 1024, height: 1024 })
})

it('a picture is made again with its seed, and varied without it', () => {
  const store = useDraft()
  const made = job('1')
  store.reuse(made, 9)
  expect(requestOf(store.draft)).toMatchObject({ prompt: made.prompt, width: 128, seed: 9, num_images: 1 })
  store.reuse(made, null)
  expect(requestOf(store.draft)).not.toHaveProperty('seed')
})

it('a LoRA comes with its word, and twice with the weight that it has', () => {
  const store = useDraft()
  store.draft.prompt = 'a cat'
  store.addLora('style', 'TOK')
  expect(store.draft.prompt).toBe('a cat, TOK')
  const [choice] = store.draft.loras
  if (choice) choice.weight = 1.5
  store.addLora('style', 'TOK')
  expect(store.draft).toMatchObject({ prompt: 'a cat, TOK', loras: [{ model_id: 'style', weight: 1.5 }] })
})

it('what is not wanted is not avoided without true CFG', () => {
  const store = useDraft()
  store.draft.negative = 'blur'
  expect(requestOf(store.draft)).not.toHaveProperty('negative_prompt')
  store.draft.trueCfg = 2
  expect(requestOf(store.draft)).toMatchObject({ true_cfg_scale: 2, negative_prompt: 'blur' })
})
