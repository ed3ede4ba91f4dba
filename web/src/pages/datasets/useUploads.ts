// Photos on their way into a dataset: a picture travels with its caption file, two at a time.

import { computed, ref, type Ref } from 'vue'

import type { Schemas } from '@/api/client'
import { explain } from '@/api/explain'
import { queryClient } from '@/api/queries'
import { upload } from '@/composables/upload'
import { text } from '@/text'

import { datasetKeys } from './useDatasets'

const AT_ONCE = 2

export type Parcel = { id: number; name: string; files: File[]; percent: number; done: boolean; faults: string[] }

const stem = (name: string) => name.replace(/\.[^.]+$/, '')

/** Files of one name belong together: `dog.png` and `dog.txt`. */
export function parcels(files: File[]): { name: string; files: File[] }[] {
  const groups = new Map<string, File[]>()
  for (const file of files) groups.set(stem(file.name), [...(groups.get(stem(file.name)) ?? []), file])
  return [...groups.values()].map((group) => {
    const picture = group.find((file) => !file.name.endsWith('.txt')) ?? group[0]
    return { name: picture?.name ?? '', files: group }
  })
}

export function useUploads(id: Ref<string>) {
  const all = ref<Parcel[]>([])
  let count = 0
  let running = 0
  const waiting: Parcel[] = []

  const open = computed(() => all.value.filter((parcel) => !parcel.done))
  const faulty = computed(() => all.value.filter((parcel) => parcel.faults.length > 0))
  const percent = computed(() => {
    const sum = all.value.reduce((total, parcel) => total + parcel.percent, 0)
    return all.value.length === 0 ? 0 : sum / all.value.length
  })

  function change(parcel: Parcel, more: Partial<Parcel>): void {
    all.value = all.value.map((one) => (one.id === parcel.id ? { ...one, ...more } : one))
  }

  async function send(parcel: Parcel): Promise<void> {
    const form = new FormData()
    parcel.files.forEach((file) => { form.append('files', file) })
    try {
      const tell = (sent: number) => { change(parcel, { percent: sent }) }
      const taken = await upload<Schemas['UploadView']>(`/api/datasets/${id.value}/upload`, form, tell)
      const faults = taken.rejected.map(({ file, reason }) => text.datasets.rejected(file, reason))
      change(parcel, { done: true, percent: 100, faults })
    } catch (error) {
      change(parcel, { done: true, percent: 100, faults: [text.datasets.rejected(parcel.name, explain(error))] })
    }
  }

  async function work(): Promise<void> {
    running += 1
    for (let next = waiting.shift(); next; next = waiting.shift()) await send(next)
    running -= 1
    if (running === 0) await queryClient.invalidateQueries({ queryKey: datasetKeys.all })
  }

  function add(files: File[]): void {
    if (open.value.length === 0) all.value = all.value.filter((parcel) => parcel.faults.length > 0)
    const added = parcels(files).map((one) => ({ id: (count += 1), percent: 0, done: false, faults: [], ...one }))
    all.value = [...all.value, ...added]
    waiting.push(...added)
    while (running < AT_ONCE && waiting.length > 0) void work()
  }

  function dismiss(): void {
    all.value = open.value
  }

  return { all, open, faulty, percent, add, dismiss }
}
