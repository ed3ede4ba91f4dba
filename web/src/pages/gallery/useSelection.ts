// Which pictures are chosen: one by one, or from one to another.

import { computed, ref, type Ref } from 'vue'

import type { Generation } from '@/api/client'

export function useSelection(jobs: Ref<Generation[]>) {
  const ids = ref(new Set<string>())
  let anchor: string | null = null

  const chosen = computed(() => jobs.value.filter((job) => ids.value.has(job.id)))
  const isAny = computed(() => chosen.value.length > 0)

  function toggle(job: Generation): void {
    anchor = job.id
    const next = new Set(ids.value)
    if (!next.delete(job.id)) next.add(job.id)
    ids.value = next
  }

  /** From the one chosen last to this one. */
  function extend(job: Generation): void {
    const [a, b] = [anchor, job.id].map((id) => jobs.value.findIndex((other) => other.id === id))
    if (a === undefined || b === undefined || a < 0 || b < 0) {
      toggle(job)
      return
    }
    const range = jobs.value.slice(Math.min(a, b), Math.max(a, b) + 1)
    ids.value = new Set([...ids.value, ...range.map((other) => other.id)])
  }

  function all(): void {
    ids.value = new Set(jobs.value.map((job) => job.id))
  }

  function none(): void {
    anchor = null
    ids.value = new Set()
  }

  return { ids, chosen, isAny, toggle, extend, all, none }
}
