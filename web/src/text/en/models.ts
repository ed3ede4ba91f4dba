// The page of models.

import { many, number } from '../format'

/** How a model may be kept in memory, by the words of `--offload`. */
const MEMORY: Record<string, string> = {
  none: 'as a whole',
  components: 'part by part',
  blocks: 'block by block',
}

export const models = {
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
  repo: 'Name of a base model on Hugging Face',
  repoPlaceholder: 'OWNER/NAME, such as black-forest-labs/FLUX.1-schnell',
  repoHint: 'The server downloads it from Hugging Face. Models with a licence to accept need HF_TOKEN on the server.',
  install: 'Install',
  asking: 'Asking…',
  installs: 'Installations',
  installing: (source: string) => `Installing ${source}`,
  beginning: 'Beginning…',
  entering: 'Looking into the files…',
  arrived: (done: string, all: string, file: string) => `${done} of ${all}  ·  ${file}`,
  stop: (source: string) => `Stop installing ${source}`,
  memory: (mode: string, size: string) => `${size} ${MEMORY[mode] ?? mode}`,
  memoryFacts: (needs: string[]) => `Memory: ${needs.join('  ·  ')}`,
  removeBase: (name: string) => `Remove ${name}`,
  removeBaseTitle: (name: string) => `Remove “${name}”?`,
  removeBaseHint: 'It leaves the list of models. Its files stay in the cache of the server, so that installing it again is quick.',
  removeBaseAction: 'Remove',
  removed: (name: string) => `“${name}” removed`,
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
}
