import { beforeEach, expect, it } from 'vitest'
import { ref } from 'vue'

import type { Generation } from '@/api/client'
import { job } from '@/api/for-tests'

import { useSelection } from './useSelection'

const all = ['5', '4', '3', '2', '1'].map((id) => job(id))
const jobs = ref(all)
const at = (id: string) => all.find((one) => one.id === id) as Generation
let selection: ReturnType<typeof useSelection>
const chosen = () => selection.chosen.value.map((one) => one.id).join('')

beforeEach(() => {
  jobs.value = all
  selection = useSelection(jobs)
})

it('one by one, and back', () => {
  selection.toggle(at('4'))
  selection.toggle(at('2'))
  selection.toggle(at('4'))
  expect(chosen()).toBe('2')
})

it('from the last that was chosen to another, in either direction', () => {
  selection.toggle(at('2'))
  selection.extend(at('4'))
  expect(chosen()).toBe('432')
  selection.none()
  selection.extend(at('1'))
  expect(chosen()).toBe('1')
})

it('what has left the list is chosen no more', () => {
  selection.all()
  jobs.value = all.slice(2)
  expect(chosen()).toBe('321')
})
