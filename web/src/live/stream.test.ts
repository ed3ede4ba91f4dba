import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import type { LiveMessage } from './messages'
import { openStream } from './stream'

/** An event source that the test moves by hand. */
class FakeSource {
  static opened: FakeSource[] = []
  onopen: (() => void) | null = null
  onmessage: ((message: { data: string }) => void) | null = null
  onerror: (() => void) | null = null
  closed = false

  constructor() {
    FakeSource.opened.push(this)
  }

  close(): void {
    this.closed = true
  }
}

const last = () => FakeSource.opened.at(-1) as FakeSource
let told: LiveMessage[]

beforeEach(() => {
  vi.useFakeTimers()
  vi.stubGlobal('EventSource', FakeSource)
  FakeSource.opened = []
  told = []
})
afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

const states = () => told.flatMap((message) => (message.kind === 'state' ? [message.connected] : []))

it('hands on what the server tells', () => {
  openStream('/api/events', (message) => told.push(message))
  last().onopen?.()
  last().onmessage?.({ data: '{"job_id":"1","event":"completed","details":{}}' })
  expect(told.at(-1)).toEqual({ kind: 'event', event: { job_id: '1', event: 'completed', details: {} } })
})

it('comes back after a loss, waiting longer each time, and says so once', () => {
  openStream('/api/events', (message) => told.push(message))
  last().onopen?.()
  for (const wait of [500, 1000, 2000, 4000, 5000, 5000]) {
    const count = FakeSource.opened.length
    last().onerror?.()
    vi.advanceTimersByTime(wait - 1)
    expect(FakeSource.opened).toHaveLength(count)
    vi.advanceTimersByTime(1)
    expect(FakeSource.opened).toHaveLength(count + 1)
  }
  last().onopen?.()
  expect(states()).toEqual([true, false, true])
})

it('stays closed once it is closed', () => {
  const stream = openStream('/api/events', (message) => told.push(message))
  last().onerror?.()
  stream.close()
  vi.advanceTimersByTime(60_000)
  expect(FakeSource.opened).toHaveLength(1)
  expect(last().closed).toBe(true)
})
