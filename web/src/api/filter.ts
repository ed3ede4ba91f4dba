// Which pictures the gallery shows: the same question to the server and to a job that has just changed.

import type { Generation } from './client'

export type Status = Generation['status']

export type GalleryFilter = {
  q: string
  status: string
  favorite: boolean
  base: string
  lora: string
  after: string
  before: string
}

export const everything: GalleryFilter = {
  q: '',
  status: 'completed',
  favorite: false,
  base: '',
  lora: '',
  after: '',
  before: '',
}

/** Whether a job belongs into the list of this filter, as the server would answer. */
export function matches(filter: GalleryFilter, job: Generation): boolean {
  const made = job.parameters
  return (
    job.status === filter.status &&
    (!filter.favorite || job.favorite) &&
    (!filter.base || made.base_model === filter.base) &&
    (!filter.lora || made.loras.some((lora) => lora.model_id === filter.lora)) &&
    (!filter.after || job.created_at > filter.after) &&
    (!filter.before || job.created_at < filter.before) &&
    job.prompt.toLowerCase().includes(filter.q.toLowerCase())
  )
}
