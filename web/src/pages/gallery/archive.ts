// Many pictures as one zip.

import { refusal, type Generation } from '@/api/client'

/** The most that the server packs at once. */
export const MAX_JOBS = 1000

export async function downloadZip(jobs: Generation[]): Promise<void> {
  const answered = await fetch('/api/generate/archive', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ids: jobs.slice(0, MAX_JOBS).map((job) => job.id) }),
  })
  if (!answered.ok) throw refusal(answered.status, await answered.json().catch(() => null))
  const url = URL.createObjectURL(await answered.blob())
  const link = Object.assign(document.createElement('a'), { href: url, download: 'masuka.zip' })
  link.click()
  setTimeout(() => { URL.revokeObjectURL(url) }, 60_000)
}
