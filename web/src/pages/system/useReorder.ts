// Rows that are moved by hand: dragged by mouse or finger, or by the arrow keys on their handle.

import { nextTick, ref, type Ref } from 'vue'

import { inOrder, moved } from './order'

type Row = { id: string }

/** `rows` as they are; `place` is told the new order, and which row made it, once that is let go. */
export function useReorder<T extends Row>(rows: Ref<T[]>, place: (order: string[], id: string) => void) {
  /** The order in hand, while a row is dragged. */
  const held = ref<string[] | null>(null)
  const dragged = ref<string | null>(null)
  /** What was moved by keyboard last, and where it stands. */
  const placed = ref<{ id: string; place: number } | null>(null)

  const idsOf = (all: T[]) => all.map(({ id }) => id)

  /** Which row lies under the pointer, by the rows' elements in order. */
  function rowAt(y: number, list: Element): number {
    const boxes = [...list.querySelectorAll('[data-row]')].map((row) => row.getBoundingClientRect())
    const at = boxes.findIndex((box) => y < box.bottom)
    return at < 0 ? boxes.length - 1 : at
  }

  function take(event: PointerEvent, id: string): void {
    const list = (event.currentTarget as HTMLElement).closest('ol')
    if (event.button !== 0 || !list) return
    dragged.value = id
    held.value = idsOf(rows.value)
    const move = ({ clientY }: PointerEvent) => {
      const ids = held.value ?? []
      const to = rowAt(clientY, list)
      if (ids[to] !== id) held.value = moved(ids, ids.indexOf(id), to)
    }
    const end = ({ type }: PointerEvent) => {
      removeEventListener('pointermove', move)
      removeEventListener('pointerup', end)
      removeEventListener('pointercancel', end)
      const order = idsOf(inOrder(rows.value, held.value))
      held.value = dragged.value = null
      const isOther = order.some((one, i) => one !== rows.value[i]?.id)
      if (type === 'pointerup' && isOther) place(order, id)
    }
    addEventListener('pointermove', move)
    addEventListener('pointerup', end)
    addEventListener('pointercancel', end)
  }

  /** Puts a row at a place of the list; its handle keeps the focus. */
  async function put(id: string, to: number): Promise<void> {
    const ids = idsOf(rows.value)
    const from = ids.indexOf(id)
    if (from < 0 || to < 0 || to >= ids.length || to === from) return
    place(moved(ids, from, to), id)
    placed.value = { id, place: to + 1 }
    await nextTick()
    document.querySelector<HTMLElement>(`[data-row="${id}"] [data-handle]`)?.focus()
  }

  return { held, dragged, placed, take, put }
}
