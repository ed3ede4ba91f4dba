// Whether what is shown lacks anything because the server could not be reached: said once a page, not once a list.

import type { Query } from '@tanstack/vue-query'
import { onBeforeUnmount, ref } from 'vue'

import { queryClient } from '@/api/queries'

export function useReach() {
  const cache = queryClient.getQueryCache()
  const isLacking = (query: Query) =>
    query.getObserversCount() > 0 && query.state.data === undefined && query.state.error instanceof TypeError
  const lacking = () => cache.findAll({ predicate: isLacking })
  const error = ref<unknown>(null)
  const note = () => (error.value = lacking()[0]?.state.error ?? null)
  onBeforeUnmount(cache.subscribe(note))
  note()

  const retry = () => Promise.all(lacking().map((query) => query.fetch().catch(() => undefined)))
  return { error, retry }
}
