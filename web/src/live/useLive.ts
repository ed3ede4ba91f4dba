// The state of the server as it changes: steps at once, everything else by reading the changed job again.

import { defineStore } from 'pinia'
import { reactive, ref } from 'vue'

import type { Install, Progress, System } from '@/api/client'
import { dropJobs, fetchJob, isKnown, keepInstall, keepJob, keys, queryClient } from '@/api/queries'
import { isTraining, isTrainingStage, noteSteps, trainingKeys, trainingStep, type TrainingProgress } from '@/api/trainings'

import { connect } from './connect'
import type { LiveMessage, ServerEvent } from './messages'

/** Changes that come together are read together. */
const GATHER_MS = 60
/** A loss shorter than this is no news. */
const NOTICE_AFTER_MS = 1500

/** While the connection is lost. */
const KNOCK_EVERY_MS = 5000

/** What was known of a job's steps is void from here on. */
const ENDINGS = ['pending', 'completed', 'failed', 'cancelled', 'paused']

type Stage = { name: string; progress: Progress | null }

export const useLive = defineStore('live', () => {
  const stages = reactive(new Map<string, Stage>())
  const trainings = reactive(new Map<string, TrainingProgress>())
  const connected = ref(false)
  const isLost = ref(false)
  const changed = new Set<string>()
  let gathering: ReturnType<typeof setTimeout> | undefined
  let noticing: ReturnType<typeof setTimeout> | undefined
  let knocking: ReturnType<typeof setInterval> | undefined
  let wasLost = false
  let leave: (() => void) | null = null

  /** A stream does not say why it is refused; any other answer does, and a server that wants its key gets to ask. */
  function notice(): void {
    isLost.value = true
    clearInterval(knocking)
    knocking = setInterval(() => void queryClient.invalidateQueries({ queryKey: keys.queue }), KNOCK_EVERY_MS)
  }

  function setConnected(next: boolean): void {
    connected.value = next
    clearTimeout(noticing)
    if (!next) {
      wasLost = true
      noticing = setTimeout(notice, NOTICE_AFTER_MS)
      return
    }
    clearInterval(knocking)
    isLost.value = false
    if (wasLost) void queryClient.invalidateQueries()
    wasLost = false
  }

  async function read(id: string): Promise<void> {
    if (!isKnown(id) && (await isTraining(id))) {
      await queryClient.invalidateQueries({ queryKey: trainingKeys.all })
      await queryClient.invalidateQueries({ queryKey: trainingKeys.loss(id) })
      // Its end is a new LoRA.
      await queryClient.invalidateQueries({ queryKey: keys.loras })
    } else {
      keepJob(await fetchJob(id))
    }
    await queryClient.invalidateQueries({ queryKey: keys.log(id) })
  }

  async function readChanged(): Promise<void> {
    const ids = [...changed]
    changed.clear()
    void queryClient.invalidateQueries({ queryKey: keys.queue })
    void queryClient.invalidateQueries({ queryKey: keys.active })
    // What fails here is read again with its list, or is gone.
    await Promise.allSettled(ids.map(read))
  }

  /** What goes on and on is read meanwhile, too. */
  function soon(): void {
    gathering ??= setTimeout(() => {
      gathering = undefined
      void readChanged()
    }, GATHER_MS)
  }

  function readSoon(id: string): void {
    changed.add(id)
    soon()
  }

  /** What is no job's: told whole, or read again where it is shown. */
  function hearOther(event: string, details: Record<string, unknown>): void {
    switch (event) {
      case 'install':
        keepInstall(details as unknown as Install)
        break
      case 'system':
        queryClient.setQueryData<System>(keys.system, (known) => known && (details as unknown as System))
        break
      case 'queue':
        for (const queryKey of [keys.queue, keys.active, trainingKeys.list]) void queryClient.invalidateQueries({ queryKey })
        break
      default:
        void queryClient.invalidateQueries({ queryKey: [event] })
    }
  }

  function hear({ job_id, event, details }: ServerEvent): void {
    if (job_id === '') {
      hearOther(event, details)
      return
    }
    const known = stages.get(job_id)
    switch (event) {
      case 'step': {
        const training = trainingStep(details)
        if (training) trainings.set(job_id, training)
        if (training && training.to_prepare === 0) noteSteps(job_id)
        if (!training) stages.set(job_id, { name: 'denoise', progress: details as unknown as Progress })
        break
      }
      case 'stage':
        if (isTrainingStage(details.stage)) readSoon(job_id)
        else stages.set(job_id, { name: String(details.stage), progress: known?.progress ?? null })
        break
      case 'deleted':
        stages.delete(job_id)
        trainings.delete(job_id)
        dropJobs([job_id])
        void queryClient.invalidateQueries({ queryKey: trainingKeys.all })
        soon()
        break
      default:
        if (ENDINGS.includes(event)) {
          stages.delete(job_id)
          trainings.delete(job_id)
        }
        readSoon(job_id)
    }
  }

  function receive(message: LiveMessage): void {
    if (message.kind === 'state') setConnected(message.connected)
    else hear(message.event)
  }

  /** Joins the stream, once. */
  function start(): void {
    leave ??= connect(receive)
  }

  function stop(): void {
    clearTimeout(noticing)
    clearInterval(knocking)
    isLost.value = false
    leave?.()
    leave = null
  }

  return { stages, trainings, connected, isLost, start, stop, receive }
})
