// Whether form and results stand side by side.

import { onBeforeUnmount, ref } from 'vue'

export function useIsWide() {
  const query = matchMedia('(min-width: 64rem)')
  const isWide = ref(query.matches)
  const note = () => (isWide.value = query.matches)
  query.addEventListener('change', note)
  onBeforeUnmount(() => { query.removeEventListener('change', note) })
  return isWide
}
