// LoRA on their way into the server, from this machine or from an address, and what became of each.

import { ref } from 'vue'

import { refusal, type Schemas } from '@/api/client'
import { explain } from '@/api/explain'
import { keys, queryClient } from '@/api/queries'
import { upload } from '@/composables/upload'

type Imported = Schemas['ImportedView']
type Source = File | string

export type Import = {
  id: number
  source: Source
  name: string
  percent: number
  result: Imported | null
  error: string | null
}

const nameOf = (source: Source) => (typeof source === 'string' ? source : source.name)

/** `partial` takes a file although some of its tensors fit nowhere. */
async function fetchInto(source: Source, partial: boolean, tell: (percent: number) => void): Promise<Imported> {
  if (typeof source !== 'string') {
    const form = new FormData()
    if (partial) form.append('allow_partial', 'true')
    form.append('file', source)
    return upload<Imported>('/api/models/import', form, tell)
  }
  const answered = await fetch('/api/models/import', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ url: source, allow_partial: partial } satisfies Schemas['ImportBody']),
  })
  const body: unknown = await answered.json()
  if (!answered.ok) throw refusal(answered.status, body)
  return body as Imported
}

export function useImports() {
  const imports = ref<Import[]>([])
  let count = 0

  function change(id: number, more: Partial<Import>): void {
    imports.value = imports.value.map((one) => (one.id === id ? { ...one, ...more } : one))
  }

  async function send(one: Import, partial: boolean): Promise<void> {
    change(one.id, { percent: 0, error: null })
    try {
      const tell = (percent: number) => { change(one.id, { percent }) }
      const result = await fetchInto(one.source, partial, tell)
      change(one.id, { result, percent: 100 })
      await queryClient.invalidateQueries({ queryKey: keys.loras })
    } catch (error) {
      change(one.id, { error: explain(error) })
    }
  }

  async function add(sources: Source[]): Promise<void> {
    const begun = { percent: 0, result: null, error: null }
    const added = sources.map((source) => ({ id: (count += 1), source, name: nameOf(source), ...begun }))
    imports.value = [...added, ...imports.value]
    for (const one of added) await send(one, false)
  }

  function dismiss(id: number): void {
    imports.value = imports.value.filter((one) => one.id !== id)
  }

  return { imports, add, send, dismiss }
}
