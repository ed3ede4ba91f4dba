// The words of the gallery's address in the server's terms. What is no known word counts as not said.

import { everything, type GalleryFilter } from '@/api/filter'

export const ages = { any: 0, day: 1, week: 7, month: 31 } as const
export type Age = keyof typeof ages

export const statuses = ['completed', 'processing', 'pending', 'failed', 'cancelled'] as const

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

/** A day that there is, such as `2026-11-27`. */
export const isDay = (word: string) => /^\d{4}-\d{2}-\d{2}$/.test(word) && !Number.isNaN(Date.parse(word))

/** When a day of this person's calendar begins, or the one `days` after it. */
function begins(day: string, days = 0): string {
  if (!isDay(day)) return ''
  const date = new Date(`${day}T00:00:00`)
  date.setDate(date.getDate() + days)
  return date.toISOString()
}

export function filterOf(query: Record<string, unknown>, now: number): GalleryFilter {
  const word = (name: string) => (typeof query[name] === 'string' ? query[name] : '')
  const days = ages[word('age') as Age] ?? 0
  // To the hour, so that the same question stays the same for a while.
  const since = Math.floor((now - days * DAY_MS) / HOUR_MS) * HOUR_MS
  return {
    ...everything,
    q: word('q'),
    status: statuses.find((status) => status === word('status')) ?? everything.status,
    favorite: word('favorite') === 'yes',
    base: word('base'),
    lora: word('lora'),
    after: days === 0 ? begins(word('from')) : new Date(since).toISOString(),
    before: begins(word('to'), 1),
  }
}
