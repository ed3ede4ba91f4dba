// This tab's end of the event stream.

import type { LiveMessage } from './messages'
import { openStream } from './stream'

/** Hears the stream until the returned function is called. */
export function connect(tell: (message: LiveMessage) => void): () => void {
  if (typeof SharedWorker === 'undefined') return openStream('/api/events', tell).close
  const worker = new SharedWorker(new URL('./events.worker.ts', import.meta.url), {
    type: 'module',
    name: 'masuka-events',
  })
  const { port } = worker
  port.onmessage = (message: MessageEvent<LiveMessage>) => {
    tell(message.data)
  }
  const join = () => {
    port.postMessage('join')
  }
  const leave = () => {
    port.postMessage('leave')
  }
  join()
  // A page that the browser keeps for the way back hears nothing meanwhile.
  addEventListener('pageshow', join)
  addEventListener('pagehide', leave)
  return () => {
    removeEventListener('pageshow', join)
    removeEventListener('pagehide', leave)
    leave()
    port.close()
  }
}
