// Every word that a person reads. For another language, this file is the one to translate.

const number = new Intl.NumberFormat('en')
const many = (count: number, one: string, other: string) => `${number.format(count)} ${count === 1 ? one : other}`

/** As people say it: `8 s`, `2 min 5 s`, `1 h 20 min`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return seconds < 10 ? `${seconds.toFixed(1)} s` : `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return whole % 60 === 0 ? `${minutes} min` : `${minutes} min ${whole % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, count)) / 3)))
  const value = count / 1000 ** power
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

export function moment(time: string): string {
  return new Date(time).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })
}

const STAGES: Record<string, string> = {
  load: 'Loading the model',
  encode_prompt: 'Reading the prompt',
  denoise: 'Starting',
  decode_latents: 'Finishing the picture',
}

const STATUSES: Record<string, string> = {
  pending: 'Waiting',
  processing: 'Running',
  completed: 'Finished',
  failed: 'Failed',
  cancelled: 'Cancelled',
}

export const text = {
  name: 'MASUKA',
  skip: 'Skip to the content',
  messages: 'Messages',
  dismiss: 'Dismiss',
  close: 'Close',
  cancel: 'Cancel',
  save: 'Save',
  undo: 'Undo',
  more: 'More',
  images: 'Pictures of this job',
  imageOf: (at: number, all: number) => `Picture ${at} of ${all}`,
  percent: (percent: number) => `${Math.round(percent)} %`,

  nav: {
    label: 'Pages',
    generate: 'Generate',
    gallery: 'Gallery',
    train: 'Train',
    models: 'Models',
    system: 'Queue',
    waiting: 'jobs in the queue',
  },

  theme: {
    system: 'Theme of the system',
    light: 'Light theme',
    dark: 'Dark theme',
    switch: (is: string, next: string) => `${is}. Change to: ${next}`,
  } as const,

  connection: { lost: 'The connection to the server is lost. Trying again…' },

  errors: {
    title: 'That did not work',
    retry: 'Try again',
    unreachable: 'The server cannot be reached. Is it running?',
    unknown: 'Something unexpected happened',
  },

  login: {
    title: 'Log in',
    hint: 'This server is protected by a key. It is the value of MASUKA_API_KEY.',
    key: 'Key',
    submit: 'Open the studio',
    wrong: 'This is not the key of this server.',
  },

  generate: {
    title: 'Generate',
    form: 'What to draw',
    results: 'Results',
    prompt: 'Prompt',
    placeholder: 'Describe a picture, such as “red apple, noto style”',
    tokens: (used: number, max: number) => `${used} of ${max} tokens`,
    cut: (words: string) => `Too long for this model. It will not read: “${words.trim().slice(0, 160)}”`,
    model: 'Model',
    loras: 'LoRA',
    addLora: 'Add a LoRA',
    noLoras: 'None for this model yet.',
    importOne: 'Import one',
    goneLora: 'Deleted LoRA',
    removeLora: (name: string) => `Remove ${name}`,
    weightOf: (name: string) => `Weight of ${name}`,
    addTrigger: (word: string) => `Add the trigger word “${word}” to the prompt`,
    plus: (word: string) => `+ ${word}`,
    size: 'Size',
    sizePreset: (ratio: string, width: number, height: number) => `${ratio}, ${width} by ${height} pixels`,
    width: 'Width in pixels',
    height: 'Height in pixels',
    swap: 'Swap width and height',
    tooLarge: (pixels: number) => `Larger than this server draws: at most ${number.format(pixels)} pixels.`,
    steps: 'Steps',
    guidance: 'Guidance',
    seed: 'Seed',
    random: 'Random',
    dice: 'Another seed',
    lockSeed: 'Keep one seed',
    unlockSeed: 'A random seed each time',
    count: 'Pictures',
    advanced: 'Advanced',
    trueCfg: 'True CFG',
    trueCfgHint: 'above 1 doubles the time',
    negative: 'Negative prompt',
    negativeHint: 'needs true CFG above 1',
    sampler: 'Sampler',
    priority: 'Priority',
    priorityHint: 'higher runs first',
    submit: 'Generate',
    submitKeys: 'Ctrl ↵',
    recent: 'Recent pictures',
    waiting: 'Waits',
    emptyTitle: 'Nothing drawn yet',
    emptyHint: 'Write what you would like to see and press Generate. The starter model knows emoji-like icons, such as “red apple, noto style”.',
    failed: 'This picture failed',
    cancelled: 'Cancelled',
    compareHint: 'Choose the picture to compare with. Esc ends it.',
  },

  samplers: { euler: 'Euler', heun: 'Heun (two passes a step)' } as Record<string, string>,

  progress: {
    label: 'Progress',
    preview: 'Preview',
    waits: (before: number) => (before === 0 ? 'Next in the queue' : `${many(before, 'job', 'jobs')} before this one`),
    stage: (name: string) => STAGES[name] ?? name,
    step: (step: number, steps: number, image: number, images: number) =>
      `Step ${step} of ${steps}${images > 1 ? `, picture ${image} of ${images}` : ''}`,
    eta: (seconds: number) => `${duration(seconds)} left`,
  },

  status: (name: string) => STATUSES[name] ?? name,
  jobLabel: (status: string, prompt: string) => `${STATUSES[status] ?? status}: ${prompt}`,
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
  compare: 'Compare with another',
  compareTitle: 'Compare',
  compareDescription: 'Move the line to see more of one picture or the other.',
  compareSplit: 'How much of the left picture is seen, in percent',
  copyPrompt: 'Copy the prompt',
  copied: 'Prompt copied',
  deleted: (count: number) => `${many(count, 'job', 'jobs')} deleted`,
}
