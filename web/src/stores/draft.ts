// What the next picture shall be. Survives a reload.

import { defineStore } from 'pinia'
import { ref, watch } from 'vue'

import type { BaseModel, GenerateBody, Generation } from '@/api/client'

export type Draft = {
  prompt: string
  base: string
  loras: { model_id: string; weight: number }[]
  width: number
  height: number
  steps: number
  guidance: number
  count: number
  seed: number | null
  negative: string
  trueCfg: number
  sampler: string
  priority: number
}

const KEY = 'masuka-draft'
/** Of a LoRA that is newly chosen, as the server has it. */
const WEIGHT = 0.8
/** Seeds below this are kept exactly by PyTorch and by JSON. */
const SEEDS = 2 ** 32

const empty: Draft = {
  prompt: '',
  base: '',
  loras: [],
  width: 0,
  height: 0,
  steps: 0,
  guidance: 0,
  count: 1,
  seed: null,
  negative: '',
  trueCfg: 1,
  sampler: '',
  priority: 0,
}

function stored(): Draft {
  try {
    return { ...empty, ...(JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Draft>) }
  } catch {
    return { ...empty }
  }
}

export const useDraft = defineStore('draft', () => {
  const draft = ref<Draft>(stored())
  watch(draft, (value) => { localStorage.setItem(KEY, JSON.stringify(value)) }, { deep: true })

  /** Takes a base model with its defaults; a draft that is complete keeps its values when they fit. */
  function useBase(model: BaseModel): void {
    const { defaults, limits } = model
    const isNew = draft.value.base !== model.id
    draft.value.base = model.id
    if (isNew || draft.value.steps === 0) {
      Object.assign(draft.value, {
        width: defaults.width,
        height: defaults.height,
        steps: defaults.num_inference_steps,
        guidance: defaults.guidance_scale,
      })
    }
    if (!limits.samplers.includes(draft.value.sampler)) draft.value.sampler = limits.samplers[0] ?? ''
    draft.value.count = Math.min(draft.value.count, limits.max_images)
  }

  /** Everything as this picture was made; its seed too. */
  function reuse(job: Generation, seed: number | null): void {
    const made = job.parameters
    draft.value = {
      ...draft.value,
      prompt: made.prompt,
      base: made.base_model,
      loras: made.loras.map((lora) => ({ ...lora })),
      width: made.width,
      height: made.height,
      steps: made.num_inference_steps,
      guidance: made.guidance_scale,
      count: seed === null ? made.num_images : 1,
      seed,
      negative: made.negative_prompt ?? '',
      trueCfg: made.true_cfg_scale,
      sampler: made.sampler,
    }
  }

  /** A LoRA with the word that calls it; one that is there already keeps its weight. */
  function addLora(id: string, word?: string | null): void {
    const { loras, prompt } = draft.value
    if (!loras.some((choice) => choice.model_id === id)) loras.push({ model_id: id, weight: WEIGHT })
    if (word && !prompt.includes(word)) draft.value.prompt = [prompt.trim(), word].filter(Boolean).join(', ')
  }

  function dice(): void {
    draft.value.seed = Math.floor(Math.random() * SEEDS)
  }

  return { draft, useBase, reuse, addLora, dice }
})

/** The draft in the server's words. */
export function requestOf(draft: Draft): GenerateBody {
  return {
    prompt: draft.prompt.trim(),
    base_model: draft.base,
    loras: draft.loras,
    width: draft.width,
    height: draft.height,
    num_inference_steps: draft.steps,
    guidance_scale: draft.guidance,
    num_images: draft.count,
    sampler: draft.sampler,
    priority: draft.priority,
    ...(draft.seed === null ? {} : { seed: draft.seed }),
    ...(draft.trueCfg > 1 ? { true_cfg_scale: draft.trueCfg, negative_prompt: draft.negative } : {}),
  }
}
