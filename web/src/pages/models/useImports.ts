// LoRA files on their way into the server, and what became of each.

import { ref } from 'vue'

import { type Schemas } from '@/api/client'
import { explain } from '@/api/explain'
import { keys, queryClient } from '@/api/queries'
import { upload } from '@/composables/upload'

export type Import = {
  id: number
  file: File
  percent: number
  result: Schemas['ImportedView'] | null
  error: string | null
}

export function useImports() {
  const imports = ref<Import[]>([])
  let count = 0

  function change(id: number, more: Partial<Import>): void {
    imports.value = imports.value.map((one) => (one.id === id ? { ...one, ...more } : one))
  }

  /** `partial` takes a file although some of its tensors fit nowhere. */
  async function send(one: Import, partial: boolean): Promise<void> {
    change(one.id, { percent: 0, error: null })
    const form = new FormData()
    if (partial) form.append('allow_partial', 'true')
    form.append('file', one.file)
    try {
      const tell = (percent: number) => { change(one.id, { percent }) }
      const result = await upload<Schemas['ImportedView']>('/api/models/import', form, tell)
      change(one.id, { result, percent: 100 })
      await queryClient.invalidateQueries({ queryKey: keys.loras })
    } catch (error) {
      change(one.id, { error: explain(error) })
    }
  }

  async function add(files: File[]): Promise<void> {
    const added = files.map((file) => ({ id: (count += 1), file, percent: 0, result: null, error: null }))
    imports.value = [...added, ...imports.value]
    for (const one of added) await send(one, false)
  }

  function dismiss(id: number): void {
    imports.value = imports.value.filter((one) => one.id !== id)
  }

  return { imports, add, send, dismiss }
}
