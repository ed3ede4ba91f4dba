// What one can do with a LoRA.

import { useRouter } from 'vue-router'

import { ask, client, type Lora, type Schemas } from '@/api/client'
import { keys, queryClient } from '@/api/queries'
import { useDraft } from '@/stores/draft'
import { useToasts } from '@/stores/toasts'
import { text } from '@/text'

export function useLoraActions(lora: () => Lora) {
  const toasts = useToasts()
  const store = useDraft()
  const router = useRouter()
  const path = () => ({ params: { path: { id: lora().id } } })

  async function describe(body: Schemas['ModelPatch']): Promise<void> {
    await ask(client.PATCH('/api/models/{id}', { ...path(), body }))
    await queryClient.invalidateQueries({ queryKey: keys.loras })
  }

  async function remove(): Promise<void> {
    try {
      await ask(client.DELETE('/api/models/{id}', path()))
      store.draft.loras = store.draft.loras.filter((choice) => choice.model_id !== lora().id)
      toasts.show(text.models.deleted(lora().name))
      await queryClient.invalidateQueries({ queryKey: keys.loras })
    } catch (error) {
      toasts.fail(error)
    }
  }

  /** Into the form of the Generate page, with the word that calls it. */
  function use(): void {
    const { id, trigger_word: word, base_model: base } = lora()
    if (base) store.draft.base = base
    store.addLora(id, word)
    void router.push({ name: 'generate' })
  }

  return { describe, remove, use }
}
