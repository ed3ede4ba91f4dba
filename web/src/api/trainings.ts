// Trainings of LoRA, as the server tells of them.

import { ask, client, type Schemas } from './client'
import { queryClient } from './queries'

export type Training = Schemas['TrainingView']
export type TrainingBody = Schemas['TrainingBody']
export type TrainingProgress = Schemas['TrainingProgress']

export const trainingKeys = {
  all: ['training'] as const,
  list: ['training', 'list'] as const,
  one: (id: string) => ['training', 'one', id] as const,
  loss: (id: string) => ['loss', id] as const,
}

export const fetchTrainings = () => ask(client.GET('/api/training'))
export const fetchTraining = (id: string) => ask(client.GET('/api/training/{id}', { params: { path: { id } } }))
export const fetchLoss = (id: string) => ask(client.GET('/api/training/{id}/loss', { params: { path: { id } } }))

const unknown: TrainingProgress = {
  percent: 0,
  step: 0,
  total_steps: 0,
  preparing: null,
  prepared: 0,
  to_prepare: 0,
  eta_seconds: null,
  current_loss: null,
  smoothed_loss: null,
  learning_rate: null,
  steps_per_second: null,
  epoch: 0,
}

/** What a step event says of a training: either how far its preparation is, or its steps; null of a picture's. */
export function trainingStep(details: Record<string, unknown>): TrainingProgress | null {
  return 'to_prepare' in details || 'training' in details ? { ...unknown, ...details } : null
}

/** Its row learns a little later than the stream that a training has begun with its steps. */
export function noteSteps(id: string): void {
  const isLate = (one: Training | undefined) => one?.session_id === id && one.status === 'preparing'
  const noted = (one: Training) => (isLate(one) ? { ...one, status: 'training' } : one)
  const single = queryClient.getQueryData<Training>(trainingKeys.one(id))
  if (single && isLate(single)) queryClient.setQueryData(trainingKeys.one(id), noted(single))
  const list = queryClient.getQueryData<Training[]>(trainingKeys.list)
  if (list?.some(isLate)) queryClient.setQueryData(trainingKeys.list, list.map(noted))
}

/** Stages of a training, each with a status of its own. */
export const isTrainingStage = (stage: unknown) => stage === 'preparing' || stage === 'training'

export const isActive = ({ status }: Training) => ['pending', 'preparing', 'training'].includes(status)

const isListed = (id: string) =>
  queryClient.getQueryData<Training[]>(trainingKeys.list)?.some((one) => one.session_id === id) ?? false

/** Whether a job is a training; asks the server about those it has not heard of. */
export async function isTraining(id: string): Promise<boolean> {
  if (isListed(id)) return true
  await queryClient.fetchQuery({ queryKey: trainingKeys.list, queryFn: fetchTrainings, staleTime: 0 })
  return isListed(id)
}
