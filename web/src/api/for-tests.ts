// Jobs for tests, whole and typed.

import type { Generation } from './client'

export function job(id: string, more: Partial<Generation> = {}): Generation {
  const prompt = more.prompt ?? 'red apple, noto style'
  return {
    id,
    status: 'completed',
    prompt,
    negative_prompt: null,
    parameters: {
      prompt,
      negative_prompt: null,
      true_cfg_scale: 1,
      sampler: 'euler',
      loras: [],
      num_images: 1,
      num_inference_steps: 30,
      guidance_scale: 3.5,
      width: 128,
      height: 128,
      seed: 7,
      base_model: 'starter',
      config: {},
      output_paths: [],
    },
    output_paths: [],
    images: [],
    progress: { step: 0, total_steps: 30, image: 0, images: 1, percent: 0, eta_seconds: null, preview_url: null },
    queue_position: null,
    error_code: null,
    error_message: null,
    warnings: [],
    tokens: null,
    timings: {},
    created_at: `2026-11-24T12:00:0${id}Z`,
    started_at: null,
    completed_at: null,
    file_size_mb: null,
    favorite: false,
    priority: 0,
    attempts: 0,
    ...more,
  }
}
