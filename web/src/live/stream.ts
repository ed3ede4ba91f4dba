// One event stream that comes back by itself. Runs in the shared worker, or in the page where there is none.

import type { LiveMessage, ServerEvent } from './messages'

const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 5000

export type Stream = { close: () => void; connected: () => boolean }

/** Opens the stream; `tell` hears events and each change of the connection. */
export function openStream(url: string, tell: (message: LiveMessage) => void): Stream {
  let source: EventSource | null = null
  let connected = false
  let wait = FIRST_WAIT_MS
  let timer: ReturnType<typeof setTimeout> | undefined
  let closed = false

  function set(next: boolean): void {
    if (connected === next) return
    connected = next
    tell({ kind: 'state', connected })
  }

  function open(): void {
    if (closed) return
    const opened = new EventSource(url)
    source = opened
    opened.onopen = () => {
      wait = FIRST_WAIT_MS
      set(true)
    }
    opened.onmessage = (message: MessageEvent<string>) => {
      tell({ kind: 'event', event: JSON.parse(message.data) as ServerEvent })
    }
    // Browsers give up after an answer that is no stream; so each loss is a new beginning, and what was missed
    // meanwhile is read from the server's lists.
    opened.onerror = () => {
      opened.close()
      if (source !== opened) return
      set(false)
      timer = setTimeout(open, wait)
      wait = Math.min(wait * 2, LONGEST_WAIT_MS)
    }
  }

  open()
  return {
    close() {
      closed = true
      clearTimeout(timer)
      source?.close()
    },
    connected: () => connected,
  }
}

