// Trainings: begun, watched, paused, ended.

import { useQuery } from '@tanstack/vue-query'
import { computed, watch, type Ref } from 'vue'

import { ask, client, type Schemas } from '@/api/client'
import { queryClient } from '@/api/queries'
import { fetchLoss, fetchTraining, fetchTrainings, trainingKeys, type TrainingBody } from '@/api/trainings'
import { useLive } from '@/live/useLive'
import { useToasts } from '@/stores/toasts'

type Loss = Schemas['LossView']

export const useTrainings = () => useQuery({ queryKey: trainingKeys.list, queryFn: fetchTrainings })

/** A training with its newest step. */
export function useTraining(id: Ref<string>) {
  const live = useLive()
  const query = useQuery({
    queryKey: computed(() => trainingKeys.one(id.value)),
    queryFn: () => fetchTraining(id.value),
  })
  const progress = computed(() => live.trainings.get(id.value) ?? query.data.value?.progress)
  return { query, progress }
}

/** The whole curve, and each step as it comes. */
export function useLoss(id: Ref<string>) {
  const live = useLive()
  const key = computed(() => trainingKeys.loss(id.value))
  const query = useQuery({ queryKey: key, queryFn: () => fetchLoss(id.value) })
  watch(
    () => live.trainings.get(id.value),
    (progress) => {
      if (typeof progress?.current_loss !== 'number') return
      const { step, current_loss: loss, smoothed_loss: smoothed, learning_rate: rate } = progress
      const point: Loss = { step, loss, smoothed_loss: smoothed ?? loss, learning_rate: rate ?? 0 }
      queryClient.setQueryData<Loss[]>(key.value, (curve) => (curve && step > (curve.at(-1)?.step ?? 0) ? [...curve, point] : curve))
    },
  )
  return query
}

export async function beginTraining(body: TrainingBody): Promise<string> {
  const created = await ask(client.POST('/api/training/flux', { body }))
  await queryClient.invalidateQueries({ queryKey: trainingKeys.all })
  return created.session_id
}

export function useTrainingActions(id: Ref<string>) {
  const toasts = useToasts()
  const path = () => ({ params: { path: { id: id.value } } })

  /** Whether it was done. */
  async function attempt(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action()
      return true
    } catch (error) {
      toasts.fail(error)
      return false
    } finally {
      void queryClient.invalidateQueries({ queryKey: trainingKeys.all })
    }
  }

  return {
    pause: () => attempt(() => ask(client.POST('/api/training/{id}/pause', path()))),
    resume: () => attempt(() => ask(client.POST('/api/training/{id}/resume', path()))),
    cancel: () => attempt(() => ask(client.POST('/api/training/{id}/cancel', path()))),
    save: () => attempt(() => ask(client.POST('/api/training/{id}/save', path()))),
    remove: () => attempt(() => ask(client.DELETE('/api/training/{id}', path()))),
  }
}
