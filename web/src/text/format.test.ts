import { expect, it } from 'vitest'

import { bytes, duration, sentence } from './format'

it('times are said as people say them', () => {
  expect([0.013, 0.95, 8, 59.6, 125, 120, 4800].map(duration)).toEqual([
    '13 ms',
    '0.9 s',
    '8.0 s',
    '1 min',
    '2 min 5 s',
    '2 min',
    '1 h 20 min',
  ])
})

it('sizes have as many digits as are of use', () => {
  expect([0, 999, 1500, 365_000_000, 23_800_000_000].map(bytes)).toEqual(['0 B', '999 B', '1.5 kB', '365 MB', '23.8 GB'])
})

it('a sentence begins with a capital', () => {
  expect(sentence('width 1000 is not a multiple of 16')).toBe('Width 1000 is not a multiple of 16')
  expect(sentence('')).toBe('')
})
