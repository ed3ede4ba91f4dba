// What one can do with a base model.

import { useRouter } from 'vue-router'

import { ask, client, type BaseModel } from '@/api/client'
import { keys, queryClient } from '@/api/queries'
import { useDraft } from '@/stores/draft'
import { useToasts } from '@/stores/toasts'
import { text } from '@/text'

export function useBaseActions(base: () => BaseModel) {
  const toasts = useToasts()
  const store = useDraft()
  const router = useRouter()

  async function remove(): Promise<void> {
    try {
      await ask(client.DELETE('/api/models/base/{id}', { params: { path: { id: base().id } } }))
      toasts.show(text.models.removed(base().name))
      await queryClient.invalidateQueries({ queryKey: keys.bases })
    } catch (error) {
      toasts.fail(error)
    }
  }

  /** Into the form of the Generate page, with its defaults. */
  function use(): void {
    store.useBase(base())
    void router.push({ name: 'generate' })
  }

  return { remove, use }
}
