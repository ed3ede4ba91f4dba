import { createPinia, setActivePinia } from 'pinia'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import type { Generation, Install } from '@/api/client'
import { job } from '@/api/for-tests'
import { keys, queryClient } from '@/api/queries'
import { trainingKeys } from '@/api/trainings'

import { useLive } from './useLive'

const GATHERED_MS = 100
let asked: string[]
let answers: Record<string, unknown>

beforeEach(() => {
  setActivePinia(createPinia())
  vi.useFakeTimers()
  queryClient.clear()
  asked = []
  answers = {}
  vi.stubGlobal('fetch', (request: Request) => {
    const path = new URL(request.url).pathname
    asked.push(path)
    const found = path in answers
    return Promise.resolve(new Response(JSON.stringify(answers[path] ?? {}), { status: found ? 200 : 404, headers: { 'content-type': 'application/json' } }))
  })
})
afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function hear(job_id: string, event: string, details: Record<string, unknown> = {}): void {
  useLive().receive({ kind: 'event', event: { job_id, event, details } })
}

it('shows a step at once, without asking', async () => {
  hear('1', 'step', { step: 3, total_steps: 30, percent: 10 })
  await vi.advanceTimersByTimeAsync(GATHERED_MS)
  expect(useLive().stages.get('1')?.progress?.step).toBe(3)
  expect(asked).toEqual([])
})

it('reads a job once for many changes, and puts it into the lists', async () => {
  queryClient.setQueryData(keys.recent, [job('1', { status: 'processing' })])
  answers['/api/generate/1'] = job('1', { favorite: true })
  for (const event of ['processing', 'stage', 'completed', 'favorite']) hear('1', event)
  await vi.advanceTimersByTimeAsync(GATHERED_MS)
  expect(asked.filter((path) => path === '/api/generate/1')).toHaveLength(1)
  expect(queryClient.getQueryData<Generation[]>(keys.recent)?.[0]).toMatchObject({ status: 'completed', favorite: true })
  expect(useLive().stages.has('1')).toBe(false)
})

it('a deleted job is gone at once, and nobody asks for it', async () => {
  queryClient.setQueryData(keys.recent, [job('1'), job('2')])
  hear('1', 'deleted')
  expect(queryClient.getQueryData<Generation[]>(keys.recent)?.map((one) => one.id)).toEqual(['2'])
  await vi.advanceTimersByTimeAsync(GATHERED_MS)
  expect(asked).toEqual([])
})

it('knows a training from a picture', async () => {
  answers['/api/training'] = [{ session_id: 't' }]
  hear('t', 'processing')
  await vi.advanceTimersByTimeAsync(GATHERED_MS)
  expect(queryClient.getQueryData(trainingKeys.list)).toHaveLength(1)
  expect(asked).not.toContain('/api/generate/t')
})

it('shows how a training is prepared, then its steps, and reads it again between the two', async () => {
  answers['/api/training'] = [{ session_id: 't', status: 'preparing' }]
  queryClient.setQueryData(trainingKeys.one('t'), { session_id: 't', status: 'preparing' })
  const shown = () => useLive().trainings.get('t')
  hear('t', 'step', { preparing: 'encode', prepared: 1, to_prepare: 24 })
  expect(shown()).toMatchObject({ preparing: 'encode', prepared: 1, to_prepare: 24, step: 0 })
  hear('t', 'stage', { status: 'processing', stage: 'training' })
  hear('t', 'step', { training: true, step: 2, total_steps: 60, percent: 3.3, current_loss: 0.5 })
  expect(shown()).toMatchObject({ step: 2, total_steps: 60, current_loss: 0.5, to_prepare: 0 })
  expect(queryClient.getQueryData(trainingKeys.one('t'))).toMatchObject({ status: 'training' })
  await vi.advanceTimersByTimeAsync(GATHERED_MS)
  expect(asked).toContain('/api/training')
})

it('reads what changes on and on, without waiting for a pause', async () => {
  answers['/api/generate/1'] = job('1')
  queryClient.setQueryData(keys.recent, [job('1')])
  for (let i = 0; i < 10; i += 1) {
    hear('1', 'processing')
    await vi.advanceTimersByTimeAsync(GATHERED_MS / 5)
  }
  expect(asked.filter((path) => path === '/api/generate/1').length).toBeGreaterThan(1)
})

it('shows how far an installation is without asking, and drops it when it has ended', () => {
  const install = { id: 'icons', source: 'owner/icons', status: 'installing', file: 'a', bytes: 1, total_bytes: 4, error: null }
  const shown = () => queryClient.getQueryData<Install[]>(keys.installs)
  queryClient.setQueryData(keys.installs, [])
  hear('', 'install', install)
  hear('', 'install', { ...install, bytes: 3 })
  expect(shown()).toEqual([{ ...install, bytes: 3 }])
  hear('', 'install', { ...install, status: 'failed', error: { code: 'x', message: 'y', field: null } })
  expect(shown()).toHaveLength(1)
  hear('', 'install', { ...install, status: 'completed' })
  expect(shown()).toEqual([])
  expect(asked).toEqual([])
})

it('shows the machine as the stream tells it, where it is looked at', () => {
  hear('', 'system', { version: '2' })
  expect(queryClient.getQueryData(keys.system)).toBeUndefined()
  queryClient.setQueryData(keys.system, { version: '1' })
  hear('', 'system', { version: '2' })
  expect(queryClient.getQueryData(keys.system)).toEqual({ version: '2' })
  expect(asked).toEqual([])
})

it('reads again what else has changed', () => {
  queryClient.setQueryData(['datasets'], [])
  queryClient.setQueryData(trainingKeys.list, [])
  hear('', 'datasets')
  hear('', 'queue')
  expect(queryClient.getQueryState(['datasets'])?.isInvalidated).toBe(true)
  expect(queryClient.getQueryState(trainingKeys.list)?.isInvalidated).toBe(true)
})

it('asks for everything again after a loss, and tells of it only when it lasts', async () => {
  const live = useLive()
  queryClient.setQueryData(keys.system, {})
  live.receive({ kind: 'state', connected: true })
  live.receive({ kind: 'state', connected: false })
  await vi.advanceTimersByTimeAsync(1000)
  expect(live.isLost).toBe(false)
  await vi.advanceTimersByTimeAsync(1000)
  expect(live.isLost).toBe(true)
  live.receive({ kind: 'state', connected: true })
  expect(live.isLost).toBe(false)
  expect(queryClient.getQueryState(keys.system)?.isInvalidated).toBe(true)
})
