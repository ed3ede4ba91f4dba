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

export const isActive = ({ status }: Training) => ['pending', 'preparing', 'training'].includes(status)

const isListed = (id: string) =>
  queryClient.getQueryData<Training[]>(trainingKeys.list)?.some((one) => one.session_id === id) ?? false

/** Whether a job is a training; asks the server about those it has not heard of. */
export async function isTraining(id: string): Promise<boolean> {
  if (isListed(id)) return true
  await queryClient.fetchQuery({ queryKey: trainingKeys.list, queryFn: fetchTrainings, staleTime: 0 })
  return isListed(id)
}
