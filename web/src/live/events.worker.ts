// Holds the one event stream of this browser for all tabs: HTTP/1.1 allows six connections to a server.

import type { LiveMessage } from './messages'
import { openStream, type Stream } from './stream'

const scope = self as unknown as SharedWorkerGlobalScope
const ports = new Set<MessagePort>()
let stream: Stream | null = null

function tell(message: LiveMessage): void {
  ports.forEach((port) => {
    port.postMessage(message)
  })
}

function join(port: MessagePort): void {
  ports.add(port)
  stream ??= openStream('/api/events', tell)
  port.postMessage({ kind: 'state', connected: stream.connected() } satisfies LiveMessage)
}

function leave(port: MessagePort): void {
  ports.delete(port)
  if (ports.size > 0) return
  stream?.close()
  stream = null
}

scope.onconnect = (connection: MessageEvent) => {
  const port = connection.ports[0]
  if (!port) return
  port.onmessage = (message: MessageEvent<'join' | 'leave'>) => {
    if (message.data === 'join') join(port)
    else leave(port)
  }
}
