// What is kept of the server's answers, by which names, and how a changed job gets into every list that shows it.

import { QueryClient, type InfiniteData } from '@tanstack/vue-query'

import { answer, ask, client, nextCursor, Refusal, type Generation, type Install } from './client'
import { matches, type GalleryFilter } from './filter'

const PAGE = 100
const RECENT = 60

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // Events tell what has changed; nothing is asked again without a reason.
      staleTime: Infinity,
      refetchOnWindowFocus: false,
      refetchOnReconnect: false,
      retry: (count, error) => !(error instanceof Refusal) && count < 3,
      // Three seconds in all, before one is told that the server cannot be reached.
      retryDelay: (count) => 400 * 2 ** count,
    },
  },
})

export const keys = {
  recent: ['generations', 'recent'] as const,
  active: ['generations', 'active'] as const,
  gallery: (filter: GalleryFilter) => ['generations', 'gallery', filter] as const,
  failed: ['generations', 'failed'] as const,
  /** The latest picture of a LoRA. */
  sample: (lora: string) => ['sample', lora] as const,
  job: (id: string) => ['generation', id] as const,
  log: (id: string) => ['log', id] as const,
  loras: ['models', 'loras'] as const,
  bases: ['models', 'bases'] as const,
  installs: ['models', 'installs'] as const,
  queue: ['queue'] as const,
  system: ['system'] as const,
  ready: ['ready'] as const,
}

export type GalleryPage = { jobs: Generation[]; next: string | null }

export const fetchJob = (id: string) =>
  ask(client.GET('/api/generate/{job_id}', { params: { path: { job_id: id } } }))

export const fetchRecent = () => ask(client.GET('/api/generate', { params: { query: { limit: RECENT } } }))

export const fetchFailed = () =>
  ask(client.GET('/api/generate', { params: { query: { limit: RECENT, status: 'failed' } } }))

/** What runs, then what waits, in the order of the queue. */
export async function fetchActive(): Promise<Generation[]> {
  const list = (status: string) =>
    ask(client.GET('/api/generate', { params: { query: { limit: 200, status } } }))
  const [running, waiting] = await Promise.all([list('processing'), list('pending')])
  const position = (job: Generation) => job.queue_position ?? Infinity
  return [...running, ...waiting.sort((a, b) => position(a) - position(b))]
}

export async function fetchGalleryPage(filter: GalleryFilter, cursor: string | null): Promise<GalleryPage> {
  const query = {
    limit: PAGE,
    status: filter.status,
    q: filter.q || undefined,
    model_id: filter.lora || undefined,
    base_model: filter.base || undefined,
    favorite: filter.favorite || undefined,
    created_after: filter.after || undefined,
    created_before: filter.before || undefined,
    cursor: cursor ?? undefined,
  }
  const { data, response } = await answer(client.GET('/api/generate', { params: { query } }))
  return { jobs: data ?? [], next: nextCursor(response) }
}

const isNewer = (a: Generation, b: Generation) =>
  a.created_at > b.created_at || (a.created_at === b.created_at && a.id > b.id)

/** The list with `job` at its place, newest first. */
export function inserted(list: Generation[], job: Generation): Generation[] {
  const others = list.filter((other) => other.id !== job.id)
  const at = others.findIndex((other) => isNewer(job, other))
  return at < 0 ? [...others, job] : [...others.slice(0, at), job, ...others.slice(at)]
}

type Gallery = InfiniteData<GalleryPage, string | null>

function intoGallery(gallery: Gallery, job: Generation, belongs: boolean): Gallery {
  const holds = (page: GalleryPage) => page.jobs.some((other) => other.id === job.id)
  const home = gallery.pages.findIndex(holds)
  if (home < 0 && !belongs) return gallery
  const before = (page: GalleryPage) => page.jobs.some((other) => isNewer(job, other))
  const target = home >= 0 ? home : gallery.pages.findIndex(before)
  const last = gallery.pages.length - 1
  // Older than all that is loaded: its page will bring it.
  if (target < 0 && gallery.pages[last]?.next) return gallery
  const index = target < 0 ? last : target
  const change = (page: GalleryPage) => ({
    ...page,
    jobs: belongs ? inserted(page.jobs, job) : page.jobs.filter((other) => other.id !== job.id),
  })
  return { ...gallery, pages: gallery.pages.map((page, i) => (i === index ? change(page) : page)) }
}

const isActive = (job: Generation) => job.status === 'pending' || job.status === 'processing'

/** Puts the newest state of a job wherever it is shown. */
export function keepJob(job: Generation, cache = queryClient): void {
  cache.setQueryData(keys.job(job.id), job)
  cache.setQueryData<Generation[]>(keys.recent, (list) => list && inserted(list, job))
  cache.setQueryData<Generation[]>(keys.active, (list) => list && replaced(list, job, isActive(job)))
  cache.setQueryData<Generation[]>(keys.failed, (list) => {
    return list && (job.status === 'failed' ? inserted(list, job) : list.filter((other) => other.id !== job.id))
  })
  if (job.status === 'completed') {
    for (const { model_id: id } of job.parameters.loras) void cache.invalidateQueries({ queryKey: keys.sample(id) })
  }
  for (const [key, gallery] of cache.getQueriesData<Gallery>({ queryKey: ['generations', 'gallery'] })) {
    if (!gallery) continue
    const belongs = matches(key[2] as GalleryFilter, job)
    cache.setQueryData<Gallery>(key, intoGallery(gallery, job, belongs))
  }
}

/** Whether a job is shown as a picture somewhere. */
export function isKnown(id: string): boolean {
  const lists = queryClient.getQueriesData<Generation[]>({ queryKey: keys.recent })
  return queryClient.getQueryData(keys.job(id)) !== undefined || lists.some(([, list]) => list?.some((job) => job.id === id))
}

function replaced(list: Generation[], job: Generation, belongs: boolean): Generation[] {
  if (!belongs) return list.filter((other) => other.id !== job.id)
  const known = list.some((other) => other.id === job.id)
  return known ? list.map((other) => (other.id === job.id ? job : other)) : [...list, job]
}

/** Takes jobs out of every list. */
export function dropJobs(ids: string[], cache = queryClient): void {
  const stays = (job: Generation) => !ids.includes(job.id)
  for (const key of [keys.recent, keys.active, keys.failed]) {
    cache.setQueryData<Generation[]>(key, (list) => list?.filter(stays))
  }
  cache.setQueriesData<Gallery>({ queryKey: ['generations', 'gallery'] }, (gallery) => {
    const pages = gallery?.pages.map((page) => ({ ...page, jobs: page.jobs.filter(stays) }))
    return gallery && pages && { ...gallery, pages }
  })
  void cache.invalidateQueries({ queryKey: ['sample'] })
}

/** Puts the newest state of an installation into its list; what has ended well or was stopped leaves it. */
export function keepInstall(install: Install, cache = queryClient): void {
  const stays = install.status === 'installing' || install.status === 'failed'
  cache.setQueryData<Install[]>(keys.installs, (list) => {
    const known = list?.some((other) => other.id === install.id)
    if (!list || !stays) return list?.filter((other) => other.id !== install.id)
    return known ? list.map((other) => (other.id === install.id ? install : other)) : [...list, install]
  })
}
