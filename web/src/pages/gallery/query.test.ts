import { expect, it } from 'vitest'

import { everything } from '@/api/filter'

import { filterOf } from './query'

const NOW = Date.parse('2026-11-27T12:34:56Z')

it('an address without words shows every finished picture', () => {
  expect(filterOf({}, NOW)).toEqual(everything)
})

it('words become what the server is asked', () => {
  const asked = filterOf({ q: 'apple', status: 'pending', favorite: 'yes', base: 'starter', age: 'day' }, NOW)
  expect(asked).toMatchObject({ q: 'apple', status: 'pending', favorite: true, base: 'starter' })
  expect(asked.after).toBe('2026-11-26T12:00:00.000Z')
})

it('days are those of the calendar, the last one included', () => {
  const { after, before } = filterOf({ age: 'days', from: '2026-11-20', to: '2026-11-21' }, NOW)
  expect(new Date(after).toString()).toMatch(/Nov 20 2026 00:00:00/)
  expect(new Date(before).toString()).toMatch(/Nov 22 2026 00:00:00/)
})

it('a word that is unknown counts as not said', () => {
  expect(filterOf({ status: 'lost', age: 'century', from: '2026-13-45', to: 'soon' }, NOW)).toEqual(everything)
})
