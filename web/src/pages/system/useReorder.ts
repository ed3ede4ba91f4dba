// Rows that are moved by hand: dragged by mouse or finger, or by the arrow keys on their handle.

import { nextTick, ref, type Ref } from 'vue'

import { moved } from './order'

type Row = { id: string }

/** `rows` as they are; `place` is told the new order once a row is let go. */
export function useReorder<T extends Row>(rows: Ref<T[]>, place: (wanted: T[]) => void) {
  /** The order in hand, while a row is dragged. */
  const held = ref<string[] | null>(null)
  const dragged = ref<string | null>(null)
  /** What was moved by keyboard last, and where it stands. */
  const placed = ref<{ row: T; place: number } | null>(null)

  const inHand = (all: T[]): T[] => {
    const ids = held.value
    if (!ids) return all
    const at = ({ id }: Row) => (ids.includes(id) ? ids.indexOf(id) : ids.length)
    return [...all].sort((a, b) => at(a) - at(b))
  }

  /** Which row lies under the pointer, by the rows' elements in order. */
  function rowAt(y: number, list: Element): number {
    const boxes = [...list.querySelectorAll('[data-row]')].map((row) => row.getBoundingClientRect())
    const at = boxes.findIndex((box) => y < box.bottom)
    return at < 0 ? boxes.length - 1 : at
  }

  function take(event: PointerEvent, row: T): void {
    const handle = event.currentTarget as HTMLElement
    const list = handle.closest('ol')
    if (event.button !== 0 || !list) return
    dragged.value = row.id
    held.value = rows.value.map(({ id }) => id)
    const move = ({ clientY }: PointerEvent) => {
      const ids = held.value ?? []
      const to = rowAt(clientY, list)
      if (ids[to] !== row.id) held.value = moved(ids, ids.indexOf(row.id), to)
    }
    const end = ({ type }: PointerEvent) => {
      removeEventListener('pointermove', move)
      removeEventListener('pointerup', end)
      removeEventListener('pointercancel', end)
      const wanted = inHand(rows.value)
      held.value = dragged.value = null
      const isOther = wanted.some((one, i) => one.id !== rows.value[i]?.id)
      if (type === 'pointerup' && isOther) place(wanted)
    }
    addEventListener('pointermove', move)
    addEventListener('pointerup', end)
    addEventListener('pointercancel', end)
  }

  /** One place up or down; the handle keeps the focus. */
  async function nudge(row: T, by: 1 | -1): Promise<void> {
    const from = rows.value.findIndex(({ id }) => id === row.id)
    const to = from + by
    if (from < 0 || to < 0 || to >= rows.value.length) return
    place(moved(rows.value, from, to))
    placed.value = { row, place: to + 1 }
    await nextTick()
    document.querySelector<HTMLElement>(`[data-row="${row.id}"] [data-handle]`)?.focus()
  }

  return { inHand, dragged, placed, take, nudge }
}
