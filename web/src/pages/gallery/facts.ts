// How a picture was made, line by line.

import type { Generation, Schemas } from '@/api/client'
import { bytes, duration, moment, text } from '@/text'

export type Fact = { name: string; value: string }

/** All that is known of a picture; what does not apply is left out. */
export function factsOf(
  job: Generation,
  image: Schemas['ImageView'] | undefined,
  nameOf: (id: string) => string,
): Fact[] {
  const made = job.parameters
  const words = text.factNames
  const loras = made.loras.map((lora) => `${nameOf(lora.model_id)} × ${lora.weight}`).join(', ')
  const seconds = Object.values(job.timings).reduce((sum, time) => sum + time, 0)
  const facts: [string, string | number | null | undefined][] = [
    [words.model, nameOf(made.base_model)],
    [words.loras, loras],
    [words.size, `${image?.width ?? made.width} × ${image?.height ?? made.height}`],
    [words.steps, made.num_inference_steps],
    [words.guidance, made.guidance_scale],
    [words.trueCfg, made.true_cfg_scale > 1 ? made.true_cfg_scale : null],
    [words.seed, image?.seed ?? made.seed],
    [words.sampler, text.samplers[made.sampler] ?? made.sampler],
    [words.tokens, job.tokens ? words.tokensOf(job.tokens.t5, job.tokens.clip) : null],
    [words.time, seconds > 0 ? duration(seconds) : null],
    [words.file, image ? bytes(image.bytes) : null],
    [words.created, moment(job.created_at)],
    [words.sha, image?.sha256.slice(0, 16)],
  ]
  return facts.flatMap(([name, value]) => (value === null || value === undefined || value === '' ? [] : [{ name, value: String(value) }]))
}
