// How far a job is: the stream's latest step, or what its row says.

import { computed, toValue, type MaybeRefOrGetter } from 'vue'

import type { Generation } from '@/api/client'
import { useLive } from '@/live/useLive'
import { text } from '@/text'

export function useJobProgress(job: MaybeRefOrGetter<Generation>) {
  const live = useLive()
  const stage = computed(() => live.stages.get(toValue(job).id))
  const progress = computed(() => stage.value?.progress ?? toValue(job).progress)
  const percent = computed(() => progress.value.percent)
  const preview = computed(() => progress.value.preview_url ?? null)

  const line = computed(() => {
    const { status, queue_position: position } = toValue(job)
    if (status === 'pending') return text.progress.waits(position ?? 0)
    const { step, total_steps: steps, image, images } = progress.value
    const name = stage.value?.name ?? 'denoise'
    if (name !== 'denoise' || step === 0) return text.progress.stage(name)
    return text.progress.step(step, steps, image, images)
  })
  const eta = computed(() => {
    const seconds = progress.value.eta_seconds
    return toValue(job).status === 'processing' && seconds ? text.progress.eta(seconds) : null
  })
  return { percent, preview, line, eta }
}
