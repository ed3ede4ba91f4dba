// Every word that a person reads. For another language, this file is the one to translate.

const number = new Intl.NumberFormat('en')
const many = (count: number, one: string, other: string) => `${number.format(count)} ${count === 1 ? one : other}`

/** As people say it: `8 s`, `2 min 5 s`, `1 h 20 min`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) {
    if (seconds < 0.95) return `${Math.round(seconds * 1000)} ms`
    return seconds < 10 ? `${seconds.toFixed(1)} s` : `${whole} s`
  }
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
    summary: (model: string, width: number, height: number, steps: number, loras: number) =>
      [model, ...(loras > 0 ? [`${loras} LoRA`] : []), `${width} × ${height}`, many(steps, 'step', 'steps')].join('  ·  '),
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

  loading: 'Loading…',
  dot: '  ·  ',
  chooseFiles: 'Choose files',

  gallery: {
    title: 'Gallery',
    search: 'Search in prompts',
    model: 'Model',
    anyModel: 'All models',
    lora: 'LoRA',
    time: 'Time',
    ages: { any: 'Any time', day: 'Last day', week: 'Last week', month: 'Last month' } as Record<string, string>,
    status: 'Status',
    favourites: 'Favourites',
    clear: 'Clear',
    pictures: 'Pictures',
    empty: 'No pictures yet',
    emptyHint: 'Everything that you draw is kept here until you delete it.',
    toGenerate: 'Draw the first one',
    noneFound: 'Nothing fits',
    noneFoundHint: 'Try fewer words or another filter.',
    moreFailed: 'The next pictures could not be loaded.',
    choose: (prompt: string) => `Select: ${prompt}`,
    count: (count: number) => many(count, 'picture', 'pictures'),
    selection: 'Selection',
    chosen: (count: number) => `${number.format(count)} selected`,
    zip: 'Download',
    packing: 'Packing…',
    none: 'Clear the selection',
    detail: 'Picture',
    before: 'Previous picture',
    after: 'Next picture',
    open: 'Open in Generate',
    without: (words: string) => `Without: ${words}`,
  },

  models: {
    title: 'Models',
    loras: 'LoRA',
    lorasHint: 'Small files that teach a base model a style or a subject.',
    drop: 'Drop LoRA files here',
    dropHint: '.safetensors of any trainer: diffusers, kohya, ComfyUI, XLabs, OneTrainer, LyCORIS',
    url: 'Address of a LoRA file',
    urlPlaceholder: 'or give the address of a .safetensors file',
    importUrl: 'Import',
    fetching: 'The server downloads it…',
    formats: {
      diffusers: 'Export for diffusers',
      kohya: 'Export for kohya',
      comfyui: 'Export for ComfyUI',
    },
    imports: 'Imports',
    sending: (percent: number, size: string) => `Sending ${Math.round(percent)} % of ${size}`,
    examining: 'Looking into the file…',
    imported: (format: string, tensors: { applied: number; ignored: number; unknown: number }) =>
      `Imported (${format}): ${number.format(tensors.applied)} tensors in effect, ${number.format(tensors.ignored)} without effect, ${number.format(tensors.unknown)} unknown`,
    partial: 'Import what fits',
    noLoras: 'No LoRA yet',
    noLorasHint: 'Drop a file above, or train one on your own pictures.',
    bases: 'Base models',
    basesHint: 'They draw the pictures.',
    isDefault: 'Default',
    family: (family: string) => `Family: ${family}`,
    baseFacts: (width: number, height: number, steps: number, guidance: number) =>
      `Made for ${width} × ${height}  ·  ${many(steps, 'step', 'steps')}  ·  guidance ${guidance}`,
    facts: (format: string, rank: number | null | undefined, alpha: number | null | undefined, size: string) =>
      [format, ...(rank ? [`rank ${rank}`] : []), ...(alpha ? [`alpha ${alpha}`] : []), size].join('  ·  '),
    sampleOf: (name: string) => `Latest picture made with ${name}`,
    actions: (name: string) => `Actions for ${name}`,
    use: 'Use it',
    edit: 'Edit',
    editTitle: 'Edit LoRA',
    download: 'Download',
    name: 'Name',
    trigger: 'Trigger word',
    triggerHint: 'the word that calls it',
    notes: 'Notes',
    deleted: (name: string) => `“${name}” deleted`,
    deleteTitle: (name: string) => `Delete “${name}”?`,
    deleteHint: 'The file is erased. Pictures made with it stay. This cannot be undone.',
  },

  datasets: {
    title: 'Datasets',
    hint: 'Your photos and what is seen in them.',
    create: 'Create',
    new: 'New dataset',
    newTitle: 'New dataset',
    newHint: 'Ten to thirty photos of one subject or style are enough.',
    name: 'Name',
    namePlaceholder: 'My dog',
    trigger: 'Trigger word',
    triggerHint: 'optional',
    triggerPlaceholder: 'A rare word that will call it, such as TOK',
    none: 'No dataset yet',
    noneHint: 'A dataset holds the photos that a LoRA learns from.',
    facts: (count: number, trigger: string | null | undefined, captioned: boolean) =>
      [
        many(count, 'picture', 'pictures'),
        ...(trigger ? [`called by ${trigger}`] : []),
        ...(count > 0 && !captioned ? ['captions missing'] : []),
      ].join('  ·  '),
    calledBy: (word: string) => `Trigger word: ${word}`,
    back: 'All datasets',
    tools: 'Edit captions',
    train: 'Train on it',
    remove: 'Delete the dataset',
    removeTitle: (name: string) => `Delete “${name}”?`,
    removeHint: 'All its pictures and captions are erased. This cannot be undone.',
    drop: 'Drop photos here',
    dropHint: 'PNG, JPEG or WebP, captions as .txt of the same name, or a zip of both',
    rejected: (file: string, reason: string) => `${file}: ${reason}`,
    uploads: 'Uploads',
    uploaded: (done: number, all: number, faulty: number) =>
      (done < all ? `${done} of ${all} sent` : `${many(all, 'upload', 'uploads')} done`) + (faulty > 0 ? `, ${faulty} rejected` : ''),
    empty: 'No pictures yet',
    emptyHint: 'Ten to thirty are enough. Say in each caption what should not be learnt: the place, the light, the pose.',
    images: 'Pictures',
    captionOf: (file: string) => `Caption of ${file}`,
    captionPlaceholder: 'What is seen here?',
    removeImage: (file: string) => `Delete ${file}`,
    size: (width: number, height: number, bucket: { width: number; height: number } | null | undefined) =>
      `${width} × ${height}${bucket ? `, trained at ${bucket.width} × ${bucket.height}` : ''}`,
    warning: (words: string) => words.charAt(0).toUpperCase() + words.slice(1),
    saved: 'Saved',
    unsaved: 'Not saved',
    bucket: (width: number, height: number) => `${width} × ${height}`,
    noBucket: 'no size fits',
    bucketCount: (name: string, count: number) => `${name}: ${count}`,
    buckets: (count: number) => `${many(count, 'picture', 'pictures')}, by training size`,
    toolsTitle: 'Edit all captions',
    toolsHint: 'Replacing comes first, then what is put before and after, then the trigger word.',
    addTrigger: 'Trigger word',
    addTriggerHint: 'put before captions that lack it',
    find: 'Find',
    replace: 'Replace by',
    prefix: 'Put before',
    suffix: 'Put after',
    applyTools: 'Change captions',
    changed: (count: number) => `${many(count, 'caption', 'captions')} changed`,
  },

  system: {
    title: 'Queue and system',
    queue: 'Queue',
    pause: 'Pause the queue',
    resume: 'Resume the queue',
    isPaused: 'The queue is paused. Running jobs go on; waiting ones stay where they are.',
    idle: 'Nothing runs and nothing waits',
    priority: (priority: number) => `priority ${priority}`,
    front: 'Run next',
    earlier: 'Raise the priority',
    later: 'Lower the priority',
    cancel: (prompt: string) => `Cancel: ${prompt}`,
    failed: 'Failed jobs',
    failedHint: 'The latest, each with what happened to it.',
    noneFailed: 'No job has failed',
    log: 'Log',
    workers: 'Workers',
    noWorkers: 'No worker runs',
    noWorkersHint: 'Jobs wait until one does. Start one with “masuka worker”, or the server without --no-worker.',
    worker: (device: string, dtype: string) => `Worker on ${device.toUpperCase()}, ${dtype}`,
    pid: (pid: number) => `process ${pid}`,
    loaded: 'Loaded models',
    nothing: 'none',
    queues: 'Serves',
    done: 'Done',
    work: (jobs: number, step: number | null) =>
      `${many(jobs, 'job', 'jobs')}${step === null ? '' : `, ${duration(step)} a step`}`,
    since: 'Since',
    machine: 'Machine',
    processor: 'Processor',
    threads: 'Threads',
    kernels: 'Kernels',
    features: 'Features',
    devices: 'Devices',
    version: 'Version',
    memory: 'Memory',
    memoryOf: (used: string, all: string) => `${used} of ${all} in use`,
    checks: { database: 'Database', storage: 'File storage', queue: 'Queue' } as Record<string, string>,
    well: 'in order',
    docs: 'Description of the API',
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
