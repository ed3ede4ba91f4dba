// The form of a training that repeats another.

import type { Training } from '@/api/trainings'

import type { Expert, TrainingForm } from './useTrainingForm'

/** What the form has no field for goes along as it was. */
const CONFIG = ['max_grad_norm', 'ema_decay', 'guidance', 'prior_pictures', 'dtype'] as const

type Recipe = Partial<{
  targets: string
  size: { rank: number; alpha: number }
  steps: number
  schedule: { learning_rate: number; warmup_steps: number; decay: string }
  optimizer: Record<string, number>
  batch: number
  accumulation: number
  resolution: number
  caption_dropout: number
  seed: number
}> &
  Partial<Record<(typeof CONFIG)[number], number | string>>

/** As `parameters` of the server; a value that it does not tell is left to it. */
type Parameters = Partial<{ recipe: Recipe; save_every: number; sample_every: number; sample_prompts: string[] }>

export function formLike(training: Training): TrainingForm {
  const { recipe = {}, save_every, sample_every, sample_prompts = [] } = training.parameters as Parameters
  const { size, schedule } = recipe
  const values: Record<keyof Expert, number | string | undefined> = {
    network_dim: size?.rank,
    network_alpha: size?.alpha,
    learning_rate: schedule?.learning_rate,
    warmup_steps: schedule?.warmup_steps,
    lr_scheduler: schedule?.decay,
    target_modules: recipe.targets,
    batch_size: recipe.batch,
    gradient_accumulation: recipe.accumulation,
    resolution: recipe.resolution,
    caption_dropout: recipe.caption_dropout,
    seed: recipe.seed,
    save_every,
    sample_every,
  }
  const said = Object.entries(values).filter(([, value]) => value !== undefined)
  const config = CONFIG.flatMap((name) => (recipe[name] === undefined ? [] : [[name, recipe[name]]]))
  return {
    name: training.name,
    dataset: training.dataset_id,
    base: training.base_model,
    trigger: training.trigger_word ?? '',
    steps: recipe.steps ?? training.total_steps,
    prompts: sample_prompts.join('\n'),
    expert: Object.fromEntries(said.map(([name, value]) => [name, String(value)])),
    config: { ...recipe.optimizer, ...Object.fromEntries(config) },
  }
}
