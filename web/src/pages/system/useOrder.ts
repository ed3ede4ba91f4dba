// An order made by hand, from the moment one lets go until the server has it.

import { computed, shallowRef, type Ref } from 'vue'

import { ask, client } from '@/api/client'
import { useToasts } from '@/stores/toasts'

import { inOrder, placeOf } from './order'

/** `served` is the server's order, which `refresh` reads again. */
export function useOrder<T extends { id: string }>(served: Ref<T[]>, refresh: () => Promise<unknown>) {
  const toasts = useToasts()
  /** The order that is on its way to the server. */
  const wanted = shallowRef<string[] | null>(null)
  const waiting = computed(() => inOrder(served.value, wanted.value))

  /** Moves are made one after the other: each begins where the one before has ended. */
  let moving: Promise<void> = Promise.resolve()

  async function send(order: string[], id: string): Promise<void> {
    // What has begun meanwhile stands beside nothing.
    const known = order.filter((other) => served.value.some((row) => row.id === other))
    const body = placeOf(known, id)
    try {
      if (body) await ask(client.PATCH('/api/queue/{id}', { params: { path: { id } }, body }))
    } catch (error) {
      toasts.fail(error)
    }
    await refresh()
  }

  function place(order: string[], id: string): void {
    wanted.value = order
    moving = moving.then(async () => {
      await send(order, id)
      if (wanted.value === order) wanted.value = null
    })
  }

  return { waiting, place }
}
