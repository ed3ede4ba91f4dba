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

  const path = () => ({ id: base().id })

  async function attempt(action: () => Promise<unknown>, done: string): Promise<void> {
    try {
      await action()
      toasts.show(done)
      await queryClient.invalidateQueries({ queryKey: keys.bases })
    } catch (error) {
      toasts.fail(error)
    }
  }

  /** Off the list, with its files where that is wanted. */
  const remove = (files: boolean) =>
    attempt(() => ask(client.DELETE('/api/models/base/{id}', { params: { path: path(), query: { files } } })), text.models.removed(base().name))

  /** For requests that name no model. */
  const makeDefault = () =>
    attempt(() => ask(client.PATCH('/api/models/base/{id}', { params: { path: path() }, body: { is_default: true } })), text.models.isDefaultNow(base().name))

  /** Into the form of the Generate page, with its defaults. */
  function use(): void {
    store.useBase(base())
    void router.push({ name: 'generate' })
  }

  return { remove, makeDefault, use }
}
