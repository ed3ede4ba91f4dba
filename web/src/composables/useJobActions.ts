// What one can do with a job, wherever it is shown.

import { ask, client, type Generation } from '@/api/client'
import { dropJobs, fetchJob, keepJob } from '@/api/queries'
import { useToasts } from '@/stores/toasts'
import { text } from '@/text'

/** How long the server keeps what was deleted, less the way there. */
const UNDO_MS = 28_000

const path = (id: string) => ({ params: { path: { job_id: id } } })

export function useJobActions() {
  const toasts = useToasts()

  async function attempt(action: () => Promise<void>): Promise<void> {
    try {
      await action()
    } catch (error) {
      toasts.fail(error)
    }
  }

  /** Shown at once; put back if the server refuses. */
  const favourite = (job: Generation) =>
    attempt(async () => {
      const liked = { ...job, favorite: !job.favorite }
      keepJob(liked)
      try {
        keepJob(await ask(client.PATCH('/api/generate/{job_id}', { ...path(job.id), body: { favorite: liked.favorite } })))
      } catch (error) {
        keepJob(job)
        throw error
      }
    })

  const cancel = (job: Generation) =>
    attempt(async () => { keepJob(await ask(client.POST('/api/generate/{job_id}/cancel', path(job.id)))) })

  const retry = (job: Generation) =>
    attempt(async () => { keepJob(await ask(client.POST('/api/generate/{job_id}/retry', path(job.id)))) })

  async function restore(jobs: Generation[]): Promise<void> {
    await attempt(async () => {
      jobs.forEach((job) => { keepJob(job) })
      const restored = jobs.map((job) => ask(client.POST('/api/generate/{job_id}/restore', path(job.id))))
      for (const result of await Promise.allSettled(restored)) {
        if (result.status === 'fulfilled') keepJob(result.value)
        else toasts.fail(result.reason)
      }
    })
  }

  /** Gone at once, with a way back. */
  async function remove(jobs: Generation[]): Promise<void> {
    dropJobs(jobs.map((job) => job.id))
    const results = await Promise.allSettled(jobs.map((job) => ask(client.DELETE('/api/generate/{job_id}', path(job.id)))))
    const gone = jobs.filter((_, i) => results[i]?.status === 'fulfilled')
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) {
      toasts.fail(failed.reason)
      jobs.filter((job) => !gone.includes(job)).forEach((job) => { keepJob(job) })
    }
    if (gone.length === 0) return
    const action = { label: text.undo, run: () => void restore(gone) }
    toasts.show(text.deleted(gone.length), { action, shownMs: UNDO_MS })
  }

  const copyPrompt = (job: Generation) =>
    attempt(async () => {
      await navigator.clipboard.writeText(job.prompt)
      toasts.show(text.copied)
    })

  /** A link that has expired is read again. */
  const refresh = (job: Generation) => attempt(async () => { keepJob(await fetchJob(job.id)) })

  return { favourite, cancel, retry, remove, copyPrompt, refresh }
}
