// Sizes that a base model accepts.

export type Limits = { size_multiple: number; min_side: number; max_side: number; max_pixels: number }
export type Size = { width: number; height: number }
export type Ratio = readonly [number, number]

export const ratios: Ratio[] = [
  [1, 1],
  [4, 3],
  [3, 2],
  [16, 9],
  [3, 4],
  [2, 3],
  [9, 16],
]

/** A side as the model takes it: a multiple within its limits. */
export function side(pixels: number, limits: Limits): number {
  const { size_multiple: multiple, min_side: min, max_side: max } = limits
  const within = Math.min(max, Math.max(min, pixels))
  const rounded = Math.round(within / multiple) * multiple
  if (rounded > max) return rounded - multiple
  return rounded < min ? rounded + multiple : rounded
}

/** The size of this ratio whose area is nearest to that of `standard`. */
export function sizeOf([across, down]: Ratio, standard: Size, limits: Limits): Size {
  const area = Math.min(standard.width * standard.height, limits.max_pixels)
  const width = side(Math.sqrt((area * across) / down), limits)
  const size = { width, height: side((width * down) / across, limits) }
  return fits(size, limits) ? size : { ...size, height: size.height - limits.size_multiple }
}

/** Whether the area is one that the server draws. */
export function fits({ width, height }: Size, limits: Limits): boolean {
  return width * height <= limits.max_pixels
}
