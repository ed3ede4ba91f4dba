// The real server with the starter model, in a folder of its own, on a port that it keeps over a restart.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const BINARY = process.env.MASUKA ?? join(import.meta.dirname, '../../target/debug/masuka')

export async function startServer({ variables = {}, flags = [] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'masuka-story-'))
  let child
  let port = 0

  /** `more` stands for or beside the variables from before. */
  async function start(more = {}) {
    child = spawn(BINARY, ['serve', '--port', String(port), ...flags], {
      env: { HOME: folder, MASUKA_DATA_DIR: folder, MASUKA_LOG: 'warn', ...variables, ...more },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const lines = createInterface({ input: child.stdout })
    for await (const line of lines) {
      const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(line)
      if (found) {
        port = Number(found[1])
        return
      }
    }
    throw new Error('the server ended before it was ready')
  }

  const ended = () => new Promise((resolve) => child.once('exit', resolve))
  const kill = async () => {
    const exit = ended()
    child.kill('SIGKILL')
    await exit
  }
  await start()
  return {
    folder,
    address: `http://127.0.0.1:${port}`,
    kill,
    start,
    async stop() {
      await kill()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
