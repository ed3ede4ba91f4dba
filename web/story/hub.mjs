// A hub that has the starter model as `owner/icons` and sends half of its weights until it is released.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'

const STARTER = join(import.meta.dirname, '../../models/starter')
const WEIGHTS = 'transformer/diffusion_pytorch_model.safetensors'
const REVISION = '0123456789abcdef0123456789abcdef01234567'
const LIST = '/api/models/owner/icons/revision/main'
const FILES = `/owner/icons/resolve/${REVISION}/`

const hash = (kind, content) => createHash(kind).update(content).digest('hex')

function sibling(name) {
  const content = readFileSync(join(STARTER, name))
  const lfs = name.endsWith('.safetensors') ? { sha256: hash('sha256', content) } : undefined
  return { rfilename: name, size: content.length, blobId: hash('sha1', content), lfs }
}

export async function startHub() {
  const entries = readdirSync(STARTER, { recursive: true, withFileTypes: true })
  const names = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(STARTER.length + 1))
  const list = JSON.stringify({ sha: REVISION, siblings: names.map(sibling) })
  let isReleased = false
  const waiting = []

  function sendFile(request, response, name) {
    const content = readFileSync(join(STARTER, name))
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const head = { 'content-length': content.length - from, etag: '"x"' }
    if (from > 0) head['content-range'] = `bytes ${from}-${content.length - 1}/${content.length}`
    response.writeHead(from > 0 ? 206 : 200, head)
    if (name !== WEIGHTS || isReleased) {
      response.end(content.subarray(from))
      return
    }
    const half = Math.max(from, content.length >> 1)
    response.write(content.subarray(from, half))
    waiting.push(() => response.end(content.subarray(half)))
  }

  const server = createServer((request, response) => {
    const path = new URL(request.url, 'http://hub').pathname
    if (path === LIST) response.end(list)
    else if (path.startsWith(FILES)) sendFile(request, response, path.slice(FILES.length))
    else response.writeHead(404).end()
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    /** Sends what is held back, and everything else whole from here on. */
    release() {
      isReleased = true
      waiting.splice(0).forEach((send) => send())
    },
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
}
