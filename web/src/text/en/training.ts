// Trainings.

import { duration, many, number, sentence } from '../format'
import { STATUSES } from './pictures'

const TRAININGS: Record<string, string> = {
  ...STATUSES,
  preparing: 'Preparing',
  training: 'Training',
  paused: 'Paused',
}

const PARTS: Record<string, string> = {
  priors: 'Drawing pictures to keep what the model knows',
  encode: 'Encoding the pictures',
}

/** Parts of a training's recipe whose own names say little. */
const RECIPE: Record<string, string> = {
  targets: 'Layers',
  decay: 'Schedule',
  warmup_steps: 'Warm-up steps',
  batch: 'Batch size',
  accumulation: 'Gradient accumulation',
  max_grad_norm: 'Gradient clipping',
  ema_decay: 'EMA decay',
  beta1: 'Adam β₁',
  beta2: 'Adam β₂',
  eps: 'Adam ε',
}

export const training = {
  title: 'Trainings',
  hint: 'Teach a model your subject or style: photos in, a LoRA out.',
  new: 'New training',
  guide: [
    { title: '1. Collect photos', hint: 'Make a dataset below: ten to thirty photos of one subject or style.' },
    { title: '2. Say what they show', hint: 'A caption for each photo, and a trigger word that stands for your subject.' },
    { title: '3. Train', hint: 'Watch it learn. The finished LoRA can be used on the Generate page at once.' },
  ],
  back: 'All trainings',
  newTitle: 'New training',
  newHint: 'The defaults suit the model. The finished LoRA appears under Models and can be used at once.',
  dataset: 'Dataset',
  choose: 'Choose one',
  pictures: (count: number) => many(count, 'picture', 'pictures'),
  emptyDataset: 'This dataset has no pictures yet.',
  length: 'Length',
  lengths: { quick: 'Quick look', normal: 'Normal', thorough: 'Thorough' },
  stepsOf: (count: number) => many(count, 'step', 'steps'),
  expert: 'Expert settings',
  expertHint: 'Left empty, the server chooses what suits the model.',
  suitsModel: 'Default of the model',
  expertNames: {
    network_dim: 'Rank',
    network_alpha: 'Alpha',
    learning_rate: 'Learning rate',
    lr_scheduler: 'Schedule',
    warmup_steps: 'Warm-up steps',
    batch_size: 'Batch size',
    gradient_accumulation: 'Gradient accumulation',
    resolution: 'Resolution',
    caption_dropout: 'Caption dropout (0 to 1)',
    seed: 'Seed',
    save_every: 'Checkpoint every (steps)',
    sample_every: 'Sample every (steps)',
    target_modules: 'Layers',
  },
  choices: {
    lr_scheduler: { constant: 'Constant', cosine: 'Cosine' },
    target_modules: { attention: 'Attention', all_linear: 'All linear layers' },
  },
  prompts: 'Sample prompts',
  promptsHint: 'one a line; by default the first captions',
  start: 'Start training',
  progress: 'Progress of the training',
  line: (status: string, step: number, steps: number) =>
    `${TRAININGS[status] ?? status}  ·  step ${number.format(step)} of ${number.format(steps)}`,
  preparing: (part: string, done: number, all: number) =>
    `${PARTS[part] ?? 'Preparing'}${all > 0 ? `  ·  ${done} of ${all}` : ''}`,
  loss: 'Loss',
  lossHint: 'Drag to zoom in, double click to zoom out.',
  noLoss: 'The curve begins with the first step.',
  smoothed: 'Smoothed',
  smoothedLoss: 'Loss (smoothed)',
  step: 'Step',
  chart: (steps: number, loss: number) => `Loss over ${many(steps, 'step', 'steps')}, smoothed ${loss.toFixed(4)} at the end`,
  rate: 'Learning rate',
  speed: 'Speed',
  perStep: (seconds: number) => `${duration(seconds)} a step`,
  left: 'Time left',
  took: 'Time taken',
  unknown: '–',
  samples: 'Samples',
  samplesHint: 'The same prompts and seeds, as the training goes on.',
  noSamples: 'The first samples come later.',
  noSamplesAtAll: 'No samples were drawn.',
  sampleAt: (prompt: string, step: number) => `${prompt}, after ${many(step, 'step', 'steps')}`,
  atStep: (step: number) => `Step ${number.format(step)}`,
  details: 'Details',
  recipe: (name: string) => RECIPE[name] ?? sentence(name.replaceAll('_', ' ')),
  recipeValue: (value: string | number | boolean) => (typeof value === 'string' ? sentence(value.replaceAll('_', ' ')) : String(value)),
  checkpoints: 'Checkpoints',
  noCheckpoints: 'None yet.',
  save: 'Save now',
  saving: 'A checkpoint is written after this step',
  pause: 'Pause',
  resume: 'Resume',
  generate: 'Generate with it',
  remove: 'Delete the training',
  removeHint: 'Checkpoints and samples are erased. The finished LoRA stays.',
}
