// How the prompt is split into tokens, counted by the server while one writes.

import { useQuery } from '@tanstack/vue-query'
import { computed, ref, toValue, watch, type MaybeRefOrGetter } from 'vue'

import { ask, client } from '@/api/client'

const PAUSE_MS = 250

export function useTokens(prompt: MaybeRefOrGetter<string>, base: MaybeRefOrGetter<string>) {
  const settled = ref(toValue(prompt))
  let timer: ReturnType<typeof setTimeout> | undefined
  watch(
    () => toValue(prompt),
    (next) => {
      clearTimeout(timer)
      timer = setTimeout(() => (settled.value = next), PAUSE_MS)
    },
  )
  const body = computed(() => ({ prompt: settled.value, base_model: toValue(base) }))
  return useQuery({
    queryKey: ['tokens', body],
    queryFn: () => ask(client.POST('/api/tokenize', { body: body.value })),
    enabled: () => body.value.base_model !== '' && body.value.prompt.trim() !== '',
    placeholderData: (before) => before,
    gcTime: 60_000,
  })
}
