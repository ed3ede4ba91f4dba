// Base models on their way into the server. Where they are is told by the event stream, to every tab.

import { useQuery } from '@tanstack/vue-query'
import { ref } from 'vue'

import { ask, client, type Install } from '@/api/client'
import { explain } from '@/api/explain'
import { keys, queryClient } from '@/api/queries'
import { useToasts } from '@/stores/toasts'

export function useInstalls() {
  const toasts = useToasts()
  const installs = useQuery({
    queryKey: keys.installs,
    queryFn: () => ask(client.GET('/api/models/base/install')),
  })
  const isAsking = ref(false)
  const refusal = ref<string | null>(null)

  /** Whether the hub has the model and the server has room for it. */
  async function install(repo: string): Promise<boolean> {
    isAsking.value = true
    refusal.value = null
    try {
      await ask(client.POST('/api/models/base/install', { body: { repo } }))
      await queryClient.invalidateQueries({ queryKey: keys.installs })
      return true
    } catch (error) {
      refusal.value = explain(error)
      return false
    } finally {
      isAsking.value = false
    }
  }

  async function stop(id: string): Promise<void> {
    try {
      await ask(client.DELETE('/api/models/base/install/{id}', { params: { path: { id } } }))
    } catch (error) {
      toasts.fail(error)
    }
    await queryClient.invalidateQueries({ queryKey: keys.installs })
  }

  /** Tries one again that has failed, under the id that it had. */
  async function retry({ id, source }: Install): Promise<void> {
    try {
      await ask(client.POST('/api/models/base/install', { body: { repo: source, id } }))
    } catch (error) {
      toasts.fail(error)
    }
    await queryClient.invalidateQueries({ queryKey: keys.installs })
  }

  return { installs, isAsking, refusal, install, stop, retry }
}
