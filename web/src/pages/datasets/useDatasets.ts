// Datasets: pictures and captions to train on.

import { useQuery } from '@tanstack/vue-query'
import { computed, type Ref } from 'vue'

import { ask, client, type Schemas } from '@/api/client'
import { queryClient } from '@/api/queries'
import { useToasts } from '@/stores/toasts'

export type Dataset = Schemas['DatasetView']
export type DatasetImage = Schemas['DatasetImageView']

export const datasetKeys = {
  all: ['datasets'] as const,
  one: (id: string) => ['datasets', id] as const,
  images: (id: string) => ['datasets', id, 'images'] as const,
}

const byId = (id: string) => ({ params: { path: { id } } })

export const useDatasets = () =>
  useQuery({ queryKey: datasetKeys.all, queryFn: () => ask(client.GET('/api/datasets')) })

export const useDatasetImages = (id: Ref<string>) =>
  useQuery({
    queryKey: computed(() => datasetKeys.images(id.value)),
    queryFn: () => ask(client.GET('/api/datasets/{id}/images', byId(id.value))),
  })

export const useDatasetOf = (id: Ref<string>) =>
  useQuery({
    queryKey: computed(() => datasetKeys.one(id.value)),
    queryFn: () => ask(client.GET('/api/datasets/{id}', byId(id.value))),
  })

export const createDataset = async (body: Schemas['DatasetBody']) => {
  const created = await ask(client.POST('/api/datasets', { body }))
  await queryClient.invalidateQueries({ queryKey: datasetKeys.all })
  return created
}

export function useDatasetActions(id: Ref<string>) {
  const toasts = useToasts()
  const refresh = () => queryClient.invalidateQueries({ queryKey: datasetKeys.all })

  function put(image: DatasetImage): void {
    queryClient.setQueryData<DatasetImage[]>(datasetKeys.images(id.value), (images) =>
      images?.map((other) => (other.id === image.id ? image : other)),
    )
  }

  /** Whether it was kept. */
  async function caption(image: DatasetImage, words: string): Promise<boolean> {
    const path = { id: id.value, image_id: image.id }
    try {
      const body = { caption: words }
      put(await ask(client.PATCH('/api/datasets/{id}/images/{image_id}', { params: { path }, body })))
      return true
    } catch (error) {
      toasts.fail(error)
      return false
    }
  }

  const captionMany = async (body: Schemas['CaptionsBody']) => {
    const changed = await ask(client.POST('/api/datasets/{id}/captions', { ...byId(id.value), body }))
    await refresh()
    return changed.updated_count
  }

  async function removeImage(image: DatasetImage): Promise<void> {
    try {
      const path = { id: id.value, image_id: image.id }
      await ask(client.DELETE('/api/datasets/{id}/images/{image_id}', { params: { path } }))
      await refresh()
    } catch (error) {
      toasts.fail(error)
    }
  }

  /** Whether it is gone. */
  async function remove(): Promise<boolean> {
    try {
      await ask(client.DELETE('/api/datasets/{id}', byId(id.value)))
      await queryClient.invalidateQueries({ queryKey: datasetKeys.all, exact: true })
      return true
    } catch (error) {
      toasts.fail(error)
      return false
    }
  }

  return { caption, captionMany, removeImage, remove, refresh }
}
