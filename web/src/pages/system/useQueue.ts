// The queue: what runs, what waits, and whether it goes on.

import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'

import { ask, client, type Generation } from '@/api/client'
import { fetchActive, keys, queryClient } from '@/api/queries'
import { isActive, trainingKeys, type Training } from '@/api/trainings'
import { useTrainings } from '@/pages/train/useTrainings'
import { useToasts } from '@/stores/toasts'

import { useOrder } from './useOrder'

/** Pictures and trainings wait in queues of their own: a worker draws between two steps of a training. */
export type PictureRow = { id: string; title: string; job: Generation }
export type TrainingRow = { id: string; title: string; training: Training }

const rowOf = (job: Generation): PictureRow => ({ id: job.id, title: job.prompt, job })
const trainingRowOf = (training: Training): TrainingRow => ({ id: training.session_id, title: training.name, training })

const refresh = (...all: (readonly string[])[]) =>
  Promise.all(all.map((queryKey) => queryClient.invalidateQueries({ queryKey })))

export function useQueueState() {
  const toasts = useToasts()
  const state = useQuery({ queryKey: keys.queue, queryFn: () => ask(client.GET('/api/queue')) })

  async function toggle(): Promise<void> {
    try {
      await ask(state.data.value?.paused ? client.POST('/api/queue/resume') : client.POST('/api/queue/pause'))
    } catch (error) {
      toasts.fail(error)
    }
    await refresh(keys.queue, keys.active)
  }

  return { state, toggle }
}

export function useQueue() {
  const pictures = useQuery({ queryKey: keys.active, queryFn: fetchActive })
  const all = useTrainings()
  const jobs = computed(() => pictures.data.value ?? [])
  const trainings = computed(() => (all.data.value ?? []).filter(isActive))
  const position = (training: Training) => training.queue_position ?? Infinity

  const drawn = computed(() => jobs.value.filter((job) => job.status === 'processing').map(rowOf))
  const learnt = computed(() => trainings.value.filter((one) => one.status !== 'pending').map(trainingRowOf))
  const waitingPictures = computed(() => jobs.value.filter((job) => job.status === 'pending').map(rowOf))
  const waitingTrainings = computed(() =>
    trainings.value.filter((one) => one.status === 'pending').sort((a, b) => position(a) - position(b)).map(trainingRowOf),
  )

  return {
    queries: [pictures, all],
    running: { drawn, learnt },
    pictures: useOrder(waitingPictures, () => refresh(keys.queue, keys.active)),
    trainings: useOrder(waitingTrainings, () => refresh(keys.queue, trainingKeys.list)),
  }
}
