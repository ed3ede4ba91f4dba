// The queue: what runs, what waits, and in which order.

import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'

import { ask, client, type Generation } from '@/api/client'
import { fetchActive, keys, queryClient } from '@/api/queries'
import { useToasts } from '@/stores/toasts'

const PRIORITIES = { min: -10, max: 10 }

/** The priority that brings a waiting job to the front. */
export function frontPriority(waiting: Generation[], job: Generation): number {
  const others = waiting.filter((other) => other.id !== job.id).map((other) => other.priority)
  return Math.min(PRIORITIES.max, Math.max(job.priority, ...others.map((priority) => priority + 1)))
}

export function useQueue() {
  const toasts = useToasts()
  const active = useQuery({ queryKey: keys.active, queryFn: fetchActive })
  const state = useQuery({ queryKey: keys.queue, queryFn: () => ask(client.GET('/api/queue')) })
  const running = computed(() => (active.data.value ?? []).filter((job) => job.status === 'processing'))
  const waiting = computed(() => (active.data.value ?? []).filter((job) => job.status === 'pending'))

  async function attempt(action: () => Promise<unknown>): Promise<void> {
    try {
      await action()
    } catch (error) {
      toasts.fail(error)
    }
    await Promise.all([keys.queue, keys.active].map((queryKey) => queryClient.invalidateQueries({ queryKey })))
  }

  const toggle = () =>
    attempt(() => ask(state.data.value?.paused ? client.POST('/api/queue/resume') : client.POST('/api/queue/pause')))

  const setPriority = (job: Generation, priority: number) =>
    attempt(() => ask(client.PATCH('/api/queue/{id}', { params: { path: { id: job.id } }, body: { priority } })))

  const toFront = (job: Generation) => setPriority(job, frontPriority(waiting.value, job))

  /** One step of priority, within what the server takes. */
  function nudge(job: Generation, by: 1 | -1): void {
    void setPriority(job, Math.min(PRIORITIES.max, Math.max(PRIORITIES.min, job.priority + by)))
  }

  return { active, state, running, waiting, toggle, toFront, nudge }
}
