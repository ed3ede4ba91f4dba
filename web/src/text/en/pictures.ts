// What is said of a picture wherever it is shown.

import { duration, many, number, sentence } from '../format'

const STAGES: Record<string, string> = {
  load: 'Loading the model',
  encode_prompt: 'Reading the prompt',
  denoise: 'Starting',
  decode_latents: 'Finishing the picture',
}

export const STATUSES: Record<string, string> = {
  pending: 'Waiting',
  processing: 'Running',
  completed: 'Finished',
  failed: 'Failed',
  cancelled: 'Cancelled',
}

export const pictures = {
  samplers: { euler: 'Euler', heun: 'Heun (two passes a step)' } as Record<string, string>,

  progress: {
    label: 'Progress',
    preview: 'Preview',
    waits: (before: number) => (before === 0 ? 'Next in the queue' : `Waiting behind ${many(before, 'job', 'jobs')}`),
    stage: (name: string) => STAGES[name] ?? name,
    step: (step: number, steps: number, image: number, images: number) =>
      `Step ${step} of ${steps}${images > 1 ? `, picture ${image} of ${images}` : ''}`,
    eta: (seconds: number) => `${duration(seconds)} left`,
  },

  factNames: {
    model: 'Model',
    loras: 'LoRA',
    size: 'Size',
    steps: 'Steps',
    guidance: 'Guidance',
    trueCfg: 'True CFG',
    seed: 'Seed',
    sampler: 'Sampler',
    tokens: 'Tokens',
    tokensOf: (t5: number, clip: number) => `${t5} T5, ${clip} CLIP`,
    time: 'Time',
    file: 'File',
    created: 'Created',
    sha: 'SHA-256',
  },

  /** The server's own words, with quotation marks as people write them. */
  warning: (words: string) => sentence(words.replace(/`([^`]*)`/g, '“$1”')),
  status: (name: string) => STATUSES[name] ?? name,
  jobLabel: (status: string, prompt: string, detail = '') => [`${STATUSES[status] ?? status}: ${prompt}`, detail].filter(Boolean).join(', '),
  facts: (width: number, height: number, seed: number, steps: number, guidance: number, seconds: number) =>
    [
      `${width} × ${height}`,
      `seed ${seed}`,
      many(steps, 'step', 'steps'),
      `guidance ${guidance}`,
      ...(seconds > 0 ? [duration(seconds)] : []),
    ].join('  ·  '),
  fileName: (prompt: string, seed: number) =>
    `${prompt.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 60) || 'masuka'}-${seed}.png`,

  like: 'Add to favourites',
  unlike: 'Remove from favourites',
  download: 'Download',
  reuse: 'Reuse',
  vary: 'Vary',
  remove: 'Delete',
  details: 'All parameters',
  compare: 'Compare with another',
  compareTitle: 'Compare',
  compareDescription: 'Move the line to see more of one picture or the other.',
  compareSplit: 'How much of the left picture is seen, in percent',
  copyPrompt: 'Copy the prompt',
  copied: 'Prompt copied',
  deleted: (count: number) => `${number.format(count)} deleted`,
}
