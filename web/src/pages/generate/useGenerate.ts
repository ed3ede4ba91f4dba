// The Generate page: sends the draft, and keeps one of the recent jobs in view.

import { useQuery } from '@tanstack/vue-query'
import { computed, ref, watch, watchEffect } from 'vue'

import { ask, client, Refusal, type Generation } from '@/api/client'
import { fetchJob, fetchRecent, keepJob, keys } from '@/api/queries'
import { fits } from '@/composables/sizes'
import { useBases } from '@/composables/useModels'
import { requestOf, useDraft } from '@/stores/draft'
import { useToasts } from '@/stores/toasts'

export function useGenerate() {
  const store = useDraft()
  const toasts = useToasts()
  const bases = useBases()
  const recent = useQuery({ queryKey: keys.recent, queryFn: fetchRecent })

  const base = computed(() => {
    const all = bases.data.value ?? []
    return all.find((model) => model.id === store.draft.base) ?? all.find((model) => model.is_default) ?? all[0]
  })
  watchEffect(() => {
    if (base.value) store.useBase(base.value)
  })

  const selectedId = ref<string | null>(null)
  /** Of what was called off only the one in view is shown: it can be begun again there. */
  const jobs = computed(() =>
    (recent.data.value ?? []).filter((job) => job.status !== 'cancelled' || job.id === selectedId.value),
  )
  const selected = computed(() => jobs.value.find((job) => job.id === selectedId.value) ?? jobs.value[0])

  /** Where nothing is known, one fault stands for the page. */
  const fault = computed(() => [bases, recent].find((query) => query.isError.value && !query.data.value))
  const retry = () => Promise.all([bases, recent].filter((query) => query.isError.value).map((query) => query.refetch()))

  const isSending = ref(false)
  const refusal = ref<Refusal | null>(null)
  /** What the form itself marks as wrong is not sent. */
  const canSubmit = computed(
    () => !isSending.value && store.draft.prompt.trim() !== '' && base.value !== undefined && fits(store.draft, base.value.limits),
  )
  watch(() => store.draft, () => (refusal.value = null), { deep: true })

  async function submit(): Promise<void> {
    if (!canSubmit.value) return
    isSending.value = true
    refusal.value = null
    try {
      const created = await ask(client.POST('/api/generate/image', { body: requestOf(store.draft) }))
      keepJob(await fetchJob(created.job_id))
      selectedId.value = created.job_id
    } catch (error) {
      if (error instanceof Refusal && error.status === 422) refusal.value = error
      else toasts.fail(error)
    } finally {
      isSending.value = false
    }
  }

  /** The neighbour in the strip; the strip runs from new to old. */
  function browse(direction: 1 | -1): void {
    const at = jobs.value.findIndex((job) => job.id === selected.value?.id)
    const next = jobs.value[at + direction]
    if (next) selectedId.value = next.id
  }

  function select(job: Generation): void {
    selectedId.value = job.id
  }

  return { base, bases, recent, jobs, fault, retry, selected, select, browse, submit, canSubmit, refusal }
}
