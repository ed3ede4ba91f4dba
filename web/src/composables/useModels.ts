// Base models and LoRA of this server.

import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'

import { ask, client } from '@/api/client'
import { keys } from '@/api/queries'

export const useBases = () =>
  useQuery({ queryKey: keys.bases, queryFn: () => ask(client.GET('/api/models/base')) })

export const useLoras = () => useQuery({ queryKey: keys.loras, queryFn: () => ask(client.GET('/api/models')) })

/** Names by id, for places that only know the id. */
export function useNames() {
  const bases = useBases()
  const loras = useLoras()
  const names = computed(() => {
    const all = [...(bases.data.value ?? []), ...(loras.data.value ?? [])]
    return new Map(all.map((model) => [model.id, model.name]))
  })
  return (id: string) => names.value.get(id) ?? id
}
