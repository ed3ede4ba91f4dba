import { describe, expect, it } from 'vitest'

import { justify, within, type Tile } from './justify'

const grid = { width: 1000, rowHeight: 200, gap: 10 }
const mixed = Array.from({ length: 500 }, (_, i) => [1, 1.5, 0.66, 1.78][i % 4] ?? 1)

const byRow = (tiles: Tile[]) =>
  [...new Set(tiles.map((tile) => tile.y))].map((y) => tiles.filter((tile) => tile.y === y))

describe('justified rows', () => {
  it('show every picture once, in order', () => {
    const { tiles } = justify(mixed, grid)
    expect(tiles.map((tile) => tile.index)).toEqual(mixed.map((_, index) => index))
  })

  it('fill the width exactly, and are at most as high as asked', () => {
    const { tiles } = justify(mixed, grid)
    const rows = byRow(tiles)
    const full = rows.slice(0, -1)
    for (const row of full) {
      const last = row.at(-1)
      expect((last?.x ?? 0) + (last?.width ?? 0)).toBeCloseTo(1000)
      expect(last?.height).toBeLessThanOrEqual(200)
    }
  })

  it('keep the last row at its height', () => {
    const { tiles, height } = justify([1], grid)
    expect(tiles).toEqual([{ index: 0, x: 0, y: 0, width: 200, height: 200 }])
    expect(height).toBe(200)
  })

  it('make no last row that is higher than the one above', () => {
    const heights = byRow(justify([1, 1, 1, 1, 1, 1, 1], grid).tiles).map((row) => row[0]?.height)
    expect(heights).toEqual([192, 192])
  })

  it('are none for no pictures', () => {
    expect(justify([], grid)).toEqual({ tiles: [], height: 0 })
  })
})

it('only the tiles in view are drawn', () => {
  const layout = justify(mixed, grid)
  for (const from of [0, 333, 5000, layout.height - 10]) {
    const inView = layout.tiles.filter((tile) => tile.y + tile.height >= from && tile.y <= from + 800)
    expect(within(layout, from, from + 800)).toEqual(inView)
  }
})
