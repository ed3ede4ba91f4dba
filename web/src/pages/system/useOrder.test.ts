import { createPinia, setActivePinia } from 'pinia'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { ref } from 'vue'

import { useOrder } from './useOrder'

type Sent = { id: string | undefined; body: unknown; answer: () => void }
let sent: Sent[]
const rows = ref<{ id: string }[]>([])
const list = (words: string) => words.split('').map((id) => ({ id }))
const ids = (all: { id: string }[]) => all.map((one) => one.id).join('')

beforeEach(() => {
  setActivePinia(createPinia())
  sent = []
  rows.value = list('abc')
  vi.stubGlobal('fetch', async (request: Request) => {
    const body: unknown = await request.json()
    const id = new URL(request.url).pathname.split('/').pop()
    return new Promise((resolve) => {
      sent.push({ id, body, answer: () => { resolve(new Response(null, { status: 204 })) } })
    })
  })
})
afterEach(() => {
  vi.unstubAllGlobals()
})

it('a new order is seen at once, and sent move by move', async () => {
  const order = useOrder(rows, () => Promise.resolve())
  order.place(['c', 'a', 'b'], 'c')
  order.place(['c', 'b', 'a'], 'b')
  expect(ids(order.waiting.value)).toBe('cba')
  await vi.waitFor(() => { expect(sent).toHaveLength(1) })
  expect(sent[0]).toMatchObject({ id: 'c', body: { before: 'a' } })
  rows.value = list('cab')
  sent[0]?.answer()
  await vi.waitFor(() => { expect(sent).toHaveLength(2) })
  expect(sent[1]).toMatchObject({ id: 'b', body: { before: 'a' } })
})

it('what has begun meanwhile stands beside nothing, and the order of the server counts in the end', async () => {
  const order = useOrder(rows, () => Promise.resolve())
  rows.value = list('bc')
  order.place(['b', 'c', 'a'], 'c')
  await vi.waitFor(() => { expect(sent).toHaveLength(1) })
  expect(sent[0]?.body).toEqual({ after: 'b' })
  rows.value = list('cb')
  sent[0]?.answer()
  await vi.waitFor(() => { expect(ids(order.waiting.value)).toBe('cb') })
})
