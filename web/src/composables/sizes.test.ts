import { describe, expect, it } from 'vitest'

import { fits, ratios, side, sizeOf, type Limits } from './sizes'

const flux: Limits = { size_multiple: 16, min_side: 64, max_side: 2048, max_pixels: 2048 * 2048 }

describe('a side', () => {
  it('is a multiple within the limits', () => {
    expect([side(1000, flux), side(3, flux), side(9999, flux)]).toEqual([1008, 64, 2048])
  })

  it('stays within limits that are no multiples themselves', () => {
    const odd = { ...flux, min_side: 70, max_side: 1000 }
    expect([side(1, odd), side(5000, odd)]).toEqual([80, 992])
  })
})

describe('a preset', () => {
  const standard = { width: 1024, height: 1024 }

  it('has the ratio it says and about the area of the model', () => {
    for (const ratio of ratios) {
      const { width, height } = sizeOf(ratio, standard, flux)
      expect(Math.abs(width / height / (ratio[0] / ratio[1]) - 1), ratio.join(':')).toBeLessThan(0.05)
      expect(Math.abs((width * height) / 1024 ** 2 - 1), ratio.join(':')).toBeLessThan(0.05)
      expect([width % 16, height % 16]).toEqual([0, 0])
    }
  })

  it('never asks for more pixels than the server draws', () => {
    const small = { ...flux, max_pixels: 512 * 512 }
    for (const ratio of ratios) expect(fits(sizeOf(ratio, standard, small), small), ratio.join(':')).toBe(true)
  })
})
