import { expect, it } from 'vitest'

import { inOrder, moved, placeOf } from './order'

const rows = (words: string) => words.split('').map((id) => ({ id }))
const ids = (list: { id: string }[]) => list.map((one) => one.id).join('')

it('a row moves up, down, and no further than the ends', () => {
  expect(ids(moved(rows('abcd'), 3, 0))).toBe('dabc')
  expect(ids(moved(rows('abcd'), 0, 2))).toBe('bcad')
  expect(ids(moved(rows('abcd'), 1, 9))).toBe('acdb')
  expect(ids(moved(rows('abcd'), 9, 0))).toBe('abcd')
})

it('a place is told by the next row, or by the one before where none follows', () => {
  expect(placeOf(['a', 'b', 'c'], 'b')).toEqual({ before: 'c' })
  expect(placeOf(['a', 'b', 'c'], 'c')).toEqual({ after: 'b' })
  expect(placeOf(['a'], 'a')).toBeNull()
  expect(placeOf(['a', 'b'], 'gone')).toBeNull()
})

it('what came meanwhile stands behind an order in hand', () => {
  expect(ids(inOrder(rows('abcd'), ['c', 'a', 'gone']))).toBe('cabd')
  expect(ids(inOrder(rows('abcd'), null))).toBe('abcd')
})
