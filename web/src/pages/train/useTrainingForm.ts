// What a new training shall be: few things to choose, the rest left to the server unless one opens the expert part.

import { useQuery } from '@tanstack/vue-query'
import { computed, reactive, ref, watch } from 'vue'
import { useRoute, useRouter } from 'vue-router'

import { Refusal } from '@/api/client'
import { fetchTraining, trainingKeys, type TrainingBody } from '@/api/trainings'
import { useBases } from '@/composables/useModels'
import { useDatasets } from '@/pages/datasets/useDatasets'
import { useToasts } from '@/stores/toasts'

import { formLike } from './likeTraining'
import { beginTraining } from './useTrainings'

/** Steps for a first look, for most subjects, and for difficult ones. */
export const lengths = { quick: 300, normal: 1000, thorough: 2000 } as const

/** Numbers that the server chooses to suit the model where nothing is said. */
export const numbers = [
  'network_dim',
  'network_alpha',
  'learning_rate',
  'warmup_steps',
  'batch_size',
  'gradient_accumulation',
  'resolution',
  'caption_dropout',
  'seed',
  'save_every',
  'sample_every',
] as const
/** Words, likewise. */
export const words = ['lr_scheduler', 'target_modules'] as const

export type Expert = Partial<Record<(typeof numbers)[number] | (typeof words)[number], string>>

export type TrainingForm = {
  name: string
  dataset: string
  base: string
  trigger: string
  steps: number
  prompts: string
  expert: Expert
  /** What the form has no fields for. */
  config: Record<string, number | string>
}

/** In the server's words; of what is left empty nothing is said. */
export function bodyOf(form: TrainingForm): TrainingBody {
  const said = (name: keyof Expert) => form.expert[name]?.trim() ?? ''
  const prompts = form.prompts.split('\n').map((line) => line.trim()).filter(Boolean)
  return {
    name: form.name.trim(),
    dataset_id: form.dataset,
    base_model: form.base || null,
    trigger_word: form.trigger.trim() || null,
    steps: form.steps,
    ...(Object.keys(form.config).length > 0 ? { config: form.config } : {}),
    ...(prompts.length > 0 ? { sample_prompts: prompts } : {}),
    ...Object.fromEntries(numbers.filter((name) => said(name) !== '').map((name) => [name, Number(said(name))])),
    ...Object.fromEntries(words.filter((name) => said(name) !== '').map((name) => [name, said(name)])),
  }
}

export function useTrainingForm() {
  const route = useRoute()
  const router = useRouter()
  const toasts = useToasts()
  const datasets = useDatasets()
  const bases = useBases()
  const form = reactive<TrainingForm>({
    name: '',
    dataset: String(route.query.dataset ?? ''),
    base: '',
    trigger: '',
    steps: lengths.normal,
    prompts: '',
    expert: {},
    config: {},
  })
  const dataset = computed(() => datasets.data.value?.find((one) => one.id === form.dataset))
  const isSending = ref(false)
  const refusal = ref<Refusal | null>(null)

  const model = typeof route.query.like === 'string' ? route.query.like : ''
  const like = useQuery({ queryKey: trainingKeys.one(model), queryFn: () => fetchTraining(model), enabled: model !== '' })
  watch(() => like.data.value, (training, before) => {
    if (training && !before) Object.assign(form, formLike(training))
  }, { immediate: true })
  watch(() => datasets.data.value, (all) => {
    // A repeated training does not silently learn from something else.
    if (model === '' && form.dataset === '') form.dataset = (all?.find((one) => one.image_count > 0) ?? all?.[0])?.id ?? ''
  }, { immediate: true })
  watch(() => bases.data.value, (all) => {
    if (form.base === '') form.base = all?.find((base) => base.is_default)?.id ?? ''
  }, { immediate: true })
  // Name and trigger word follow the dataset until one writes others.
  watch(dataset, (next, before) => {
    if (form.name === (before?.name ?? '')) form.name = next?.name ?? ''
    if (form.trigger === (before?.trigger_word ?? '')) form.trigger = next?.trigger_word ?? ''
  }, { immediate: true })

  async function submit(): Promise<void> {
    isSending.value = true
    refusal.value = null
    try {
      const id = await beginTraining(bodyOf(form))
      await router.push({ name: 'training', params: { id } })
    } catch (error) {
      if (error instanceof Refusal) refusal.value = error
      else toasts.fail(error)
    } finally {
      isSending.value = false
    }
  }

  return { form, like, isLike: model !== '', datasets, bases, dataset, isSending, refusal, submit }
}
