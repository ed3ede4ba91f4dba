// Short messages at the edge, read out by screen readers.

import { defineStore } from 'pinia'
import { ref } from 'vue'

import { explain } from '@/api/explain'

const SHOWN_MS = 5000

export type Toast = {
  id: number
  message: string
  tone: 'plain' | 'danger'
  action?: { label: string; run: () => void }
}

export const useToasts = defineStore('toasts', () => {
  const toasts = ref<Toast[]>([])
  let count = 0

  function show(message: string, more: Partial<Omit<Toast, 'id'>> & { shownMs?: number } = {}): number {
    const { shownMs = SHOWN_MS, ...rest } = more
    count += 1
    const id = count
    toasts.value = [...toasts.value.slice(-3), { id, message, tone: 'plain', ...rest }]
    setTimeout(() => { dismiss(id) }, shownMs)
    return id
  }

  function dismiss(id: number): void {
    toasts.value = toasts.value.filter((toast) => toast.id !== id)
  }

  /** Tells what went wrong. */
  function fail(error: unknown): void {
    show(explain(error), { tone: 'danger', shownMs: 8000 })
  }

  return { toasts, show, dismiss, fail }
})
