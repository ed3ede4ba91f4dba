// Rows of equal width, each as high as its pictures allow: nothing is cropped.

export type Tile = { index: number; x: number; y: number; width: number; height: number }
export type Layout = { tiles: Tile[]; height: number }
export type Grid = { width: number; rowHeight: number; gap: number }

/** Pictures are never shown wider or narrower than this, so that a panorama leaves room for others. */
const RATIOS = { min: 0.5, max: 2.5 }

/** Where pictures of these ratios (width by height) lie. */
export function justify(ratios: number[], { width, rowHeight, gap }: Grid): Layout {
  const tiles: Tile[] = []
  let y = 0
  let first = 0
  let sum = 0
  let above = rowHeight

  function closeRow(end: number, height: number): void {
    let x = 0
    for (let index = first; index < end; index += 1) {
      const across = shown(ratios[index] ?? 1) * height
      tiles.push({ index, x, y, width: across, height })
      x += across + gap
    }
    y += height + gap
    above = height
    first = end
    sum = 0
  }

  ratios.forEach((ratio, index) => {
    sum += shown(ratio)
    const gaps = (index - first) * gap
    const height = (width - gaps) / sum
    if (height <= rowHeight) closeRow(index + 1, height)
  })
  // The last row is not stretched, nor larger than the one above.
  if (first < ratios.length) closeRow(ratios.length, above)
  return { tiles, height: Math.max(0, y - gap) }
}

const shown = (ratio: number) => Math.min(RATIOS.max, Math.max(RATIOS.min, ratio))

/** The tiles that reach into `from`…`to`; tiles are in order of rows. */
export function within({ tiles }: Layout, from: number, to: number): Tile[] {
  const start = firstWhere(tiles, (tile) => tile.y + tile.height >= from)
  const end = firstWhere(tiles, (tile) => tile.y > to)
  return tiles.slice(start, end)
}

/** The first tile for which `holds`, where it holds for all after it. */
function firstWhere(tiles: Tile[], holds: (tile: Tile) => boolean): number {
  let low = 0
  let high = tiles.length
  while (low < high) {
    const middle = (low + high) >> 1
    const tile = tiles[middle]
    if (tile && holds(tile)) high = middle
    else low = middle + 1
  }
  return low
}
