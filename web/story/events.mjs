// The event stream, heard without a browser.

/** Returns once the server has told of `event` so many times from now on. */
export async function hear(address, event, times) {
  const stop = new AbortController()
  const stream = await fetch(`${address}/api/events`, { signal: stop.signal })
  let count = 0
  let rest = ''
  for await (const bytes of stream.body) {
    const lines = (rest + Buffer.from(bytes).toString()).split('\n')
    rest = lines.pop()
    count += lines.filter((line) => line.startsWith('data:') && JSON.parse(line.slice(5)).event === event).length
    if (count >= times) break
  }
  stop.abort()
}
