// An order of the queue in the server's terms: each priority step is a time by which a job stands earlier.

import type { Generation } from '@/api/client'

/** As `PRIORITY_STEP_MS` of the server. */
const STEP_MS = 10 * 60 * 1000
export const PRIORITIES = { min: -10, max: 10 }

export type Change = { id: string; priority: number }
export type Waiting = Pick<Generation, 'id' | 'priority' | 'created_at'>

/**
 * When each job is due, by its age and priority. One that was begun again is younger than it looks: it is at least
 * as late as the one that waits before it.
 */
function ages(jobs: Waiting[]): Map<string, number> {
  const found = new Map<string, number>()
  let latest = -Infinity
  for (const job of jobs) {
    const due = Math.max(latest + 1, Date.parse(job.created_at) - job.priority * STEP_MS)
    found.set(job.id, due + job.priority * STEP_MS)
    latest = due
  }
  return found
}

/** The fewest priorities to change for `wanted` to become the order of `jobs`; null when there are not enough steps. */
export function changesFor(jobs: Waiting[], wanted: Waiting[]): Change[] | null {
  const age = ages(jobs)
  const differences = [upwards(wanted, age), downwards(wanted, age), upwards(wanted.map((job) => ({ ...job, priority: PRIORITIES.min })), age)]
    .filter((priorities) => priorities.every((priority) => priority >= PRIORITIES.min && priority <= PRIORITIES.max))
    .map((priorities) =>
      wanted.flatMap((job, i) => (priorities[i] === job.priority ? [] : [{ id: job.id, priority: priorities[i] ?? job.priority }])),
    )
  return differences.sort((a, b) => a.length - b.length)[0] ?? null
}

/** By how many steps the first must stand above the second to come before it. */
function lead(first: Waiting, second: Waiting, age: Map<string, number>): number {
  return Math.floor(((age.get(first.id) ?? 0) - (age.get(second.id) ?? 0)) / STEP_MS) + 1
}

/** From the back to the front, raised where needed. */
function upwards(wanted: Waiting[], age: Map<string, number>): number[] {
  const priorities = wanted.map((job) => job.priority)
  for (let i = wanted.length - 2; i >= 0; i -= 1) {
    const [first, second] = [wanted[i], wanted[i + 1]]
    if (first && second) priorities[i] = Math.max(first.priority, (priorities[i + 1] ?? 0) + lead(first, second, age))
  }
  return priorities
}

/** From the front to the back, lowered where needed. */
function downwards(wanted: Waiting[], age: Map<string, number>): number[] {
  const priorities = wanted.map((job) => job.priority)
  for (let i = 1; i < wanted.length; i += 1) {
    const [first, second] = [wanted[i - 1], wanted[i]]
    if (first && second) priorities[i] = Math.min(second.priority, (priorities[i - 1] ?? 0) - lead(first, second, age))
  }
  return priorities
}

/** The list with the item at `from` standing at `to`. */
export function moved<T>(list: T[], from: number, to: number): T[] {
  const item = list[from]
  if (item === undefined) return list
  const others = list.filter((_, i) => i !== from)
  const at = Math.min(others.length, Math.max(0, to))
  return [...others.slice(0, at), item, ...others.slice(at)]
}
