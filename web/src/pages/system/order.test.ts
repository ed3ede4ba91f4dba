import { describe, expect, it } from 'vitest'

import { changesFor, moved, type Waiting } from './order'

const START = Date.parse('2026-11-24T12:00:00Z')
const STEP_MS = 600_000

const job = (id: string, second: number, priority = 0): Waiting => ({
  id,
  priority,
  created_at: new Date(START + 1000 * second).toISOString(),
})

/** The order that the server makes of the changed priorities. */
function served(jobs: Waiting[], changes: ReturnType<typeof changesFor>): string[] {
  const priority = (one: Waiting) => changes?.find((change) => change.id === one.id)?.priority ?? one.priority
  const due = (one: Waiting) => Date.parse(one.created_at) - priority(one) * STEP_MS
  return [...jobs].sort((a, b) => due(a) - due(b)).map((one) => one.id)
}

function check(jobs: Waiting[], from: number, to: number): ReturnType<typeof changesFor> {
  const wanted = moved(jobs, from, to)
  const changes = changesFor(jobs, wanted)
  expect(served(jobs, changes)).toEqual(wanted.map((one) => one.id))
  return changes
}

describe('an order of the queue', () => {
  const jobs = ['a', 'b', 'c', 'd'].map((id, i) => job(id, i))

  it('is made by any move', () => {
    for (let from = 0; from < 4; from += 1) for (let to = 0; to < 4; to += 1) check(jobs, from, to)
  })

  it('changes no more jobs than it must', () => {
    expect(check(jobs, 3, 0)).toEqual([{ id: 'd', priority: 1 }])
    expect(check(jobs, 0, 3)).toEqual([{ id: 'a', priority: -1 }])
    expect(check(jobs, 1, 1)).toEqual([])
  })

  it('minds how long a job has waited', () => {
    const old = [job('old', 0), job('new', 3600)]
    expect(check(old, 1, 0)).toEqual([{ id: 'new', priority: 7 }])
  })

  it('starts again from below when the steps above are used up', () => {
    check([job('a', 0, 10), job('b', 1, 10), job('c', 2, -10)], 2, 0)
  })

  it('is refused where the server has not enough steps', () => {
    const apart = [job('a', 0), job('b', 7 * 24 * 3600)]
    expect(changesFor(apart, moved(apart, 1, 0))).toBeNull()
  })

  it('takes a job that was begun again as no older than those before it', () => {
    const again = [job('a', 100), job('again', 0), job('b', 200)]
    expect(changesFor(again, moved(again, 1, 0))).toEqual([{ id: 'again', priority: 1 }])
  })
})
