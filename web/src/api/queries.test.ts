import { QueryClient } from '@tanstack/vue-query'
import { beforeEach, describe, expect, it } from 'vitest'

import type { Generation } from './client'
import { everything, matches } from './filter'
import { job } from './for-tests'
import { dropJobs, keepJob, keys } from './queries'

let cache: QueryClient
const ids = (jobs: Generation[] | undefined) => jobs?.map((one) => one.id).join('')
const recent = () => ids(cache.getQueryData<Generation[]>(keys.recent))

type Pages = { pages: { jobs: Generation[]; next: string | null }[]; pageParams: (string | null)[] }
const gallery = (filter = everything) =>
  cache.getQueryData<Pages>(keys.gallery(filter))?.pages.map((page) => ids(page.jobs)).join('|')

function show(filter = everything, next: string | null = null): void {
  const pages = [
    { jobs: [job('8'), job('6')], next: 'c' },
    { jobs: [job('4')], next },
  ]
  cache.setQueryData<Pages>(keys.gallery(filter), { pages, pageParams: [null, 'c'] })
}

beforeEach(() => {
  cache = new QueryClient()
  cache.setQueryData(keys.recent, [job('8'), job('6'), job('4')])
})

describe('a job that has changed', () => {
  it('takes its place among the recent ones, newest first', () => {
    keepJob(job('7'), cache)
    keepJob(job('9'), cache)
    expect(recent()).toBe('98764')
  })

  it('is shown once, in its newest state', () => {
    keepJob(job('6', { favorite: true }), cache)
    expect(recent()).toBe('864')
    expect(cache.getQueryData<Generation[]>(keys.recent)?.[1]?.favorite).toBe(true)
  })

  it('comes into the gallery on the page where it belongs', () => {
    show()
    keepJob(job('7'), cache)
    keepJob(job('5'), cache)
    expect(gallery()).toBe('876|54')
  })

  it('older than all that is loaded waits for its own page', () => {
    show(everything, 'more')
    keepJob(job('1'), cache)
    expect(gallery()).toBe('86|4')
  })

  it('leaves a gallery whose filter it no longer fits', () => {
    const liked = { ...everything, favorite: true }
    show(liked)
    keepJob(job('6', { favorite: false }), cache)
    expect(gallery(liked)).toBe('8|4')
  })

  it('waits in the queue until it is over', () => {
    cache.setQueryData(keys.active, [job('3', { status: 'processing' })])
    keepJob(job('5', { status: 'pending' }), cache)
    expect(ids(cache.getQueryData(keys.active))).toBe('35')
    keepJob(job('3', { status: 'completed' }), cache)
    expect(ids(cache.getQueryData(keys.active))).toBe('5')
  })
})

it('deleted jobs are gone from every list', () => {
  show()
  dropJobs(['6', '4'], cache)
  expect([recent(), gallery()]).toEqual(['8', '8|'])
})

describe('a filter', () => {
  const check = (filter: Partial<typeof everything>, expected: boolean) => {
    const apple = job('5', { prompt: 'Red Apple', favorite: true })
    expect(matches({ ...everything, ...filter }, apple)).toBe(expected)
  }

  it('asks what the server asks', () => {
    check({}, true)
    check({ q: 'apple' }, true)
    check({ q: 'pear' }, false)
    check({ favorite: true }, true)
    check({ status: 'failed' }, false)
    check({ base: 'starter' }, true)
    check({ base: 'other' }, false)
    check({ lora: 'x' }, false)
    check({ after: '2026-11-24T12:00:05Z' }, false)
    check({ before: '2026-11-24T12:00:06Z' }, true)
  })
})
