// The queue: what runs, what waits, and in which order.

import { useQuery } from '@tanstack/vue-query'
import { computed, ref } from 'vue'

import { ask, client, type Generation } from '@/api/client'
import { fetchActive, keys, queryClient } from '@/api/queries'
import { useToasts } from '@/stores/toasts'
import { text } from '@/text'

import { changesFor, moved } from './order'

export function useQueue() {
  const toasts = useToasts()
  const active = useQuery({ queryKey: keys.active, queryFn: fetchActive })
  const state = useQuery({ queryKey: keys.queue, queryFn: () => ask(client.GET('/api/queue')) })
  const running = computed(() => (active.data.value ?? []).filter((job) => job.status === 'processing'))
  const served = computed(() => (active.data.value ?? []).filter((job) => job.status === 'pending'))
  /** The order that is on its way to the server. */
  const wanted = ref<string[] | null>(null)
  const waiting = computed(() => {
    const ids = wanted.value
    if (!ids) return served.value
    const at = ({ id }: Generation) => (ids.includes(id) ? ids.indexOf(id) : ids.length)
    return [...served.value].sort((a, b) => at(a) - at(b))
  })

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

  const setPriority = (id: string, priority: number) =>
    ask(client.PATCH('/api/queue/{id}', { params: { path: { id } }, body: { priority } }))

  /** Moves are made one after the other: each begins where the one before has ended. */
  let moving: Promise<void> = Promise.resolve()

  function place(order: Generation[]): void {
    const ids = order.map((job) => job.id)
    wanted.value = ids
    moving = moving.then(async () => {
      const known = order.flatMap((job) => served.value.find((other) => other.id === job.id) ?? [])
      const changes = changesFor(served.value, known)
      if (!changes) toasts.show(text.system.noStep, { tone: 'danger' })
      await attempt(() => Promise.all((changes ?? []).map(({ id, priority }) => setPriority(id, priority))))
      if (wanted.value === ids) wanted.value = null
    })
  }

  function toFront(job: Generation): void {
    place(moved(waiting.value, waiting.value.findIndex((other) => other.id === job.id), 0))
  }

  return { active, state, running, waiting, toggle, toFront, place }
}
