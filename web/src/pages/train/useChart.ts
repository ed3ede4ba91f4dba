// The canvas of a loss curve: drawn anew with each theme, as wide as its box, and zoomed into a range of steps.

import uPlot from 'uplot'
import { onBeforeUnmount, onMounted, ref, watch, type Ref } from 'vue'

import type { Schemas } from '@/api/client'
import { theme } from '@/stores/theme'
import { text } from '@/text'

type Curve = Schemas['LossView'][]
type Range = [number, number]

const HEIGHT = 260
/** Between two marks lie whole steps. */
const STEPS = [1, 2, 5].flatMap((n) => [n, 10 * n, 100 * n, 1000 * n, 10_000 * n]).sort((a, b) => a - b)

const dataOf = (curve: Curve): uPlot.AlignedData => [
  curve.map((point) => point.step),
  curve.map((point) => point.loss),
  curve.map((point) => point.smoothed_loss),
]

/** A canvas knows no variables of a style sheet. */
function optionsOf(width: number): uPlot.Options {
  const style = getComputedStyle(document.documentElement)
  const colour = (name: string) => style.getPropertyValue(name).trim()
  const axis = { stroke: colour('--c-soft'), grid: { stroke: colour('--c-line'), width: 1 }, ticks: { show: false }, font: `12px ${style.fontFamily}` }
  const value = (_: uPlot, loss: number | null) => loss?.toFixed(4) ?? text.training.unknown
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false } },
    axes: [{ ...axis, incrs: STEPS, size: 28, gap: 4 }, { ...axis, size: 44 }],
    cursor: { drag: { x: true, y: false } },
    series: [
      { label: text.training.step, value: (_, step) => step ?? text.training.unknown },
      { label: text.training.loss, stroke: colour('--c-edge'), width: 1, points: { show: false }, value },
      { label: text.training.smoothed, stroke: colour('--c-accent'), width: 2, points: { show: false }, value },
    ],
  }
}

export function useChart(box: Readonly<Ref<HTMLElement | null>>, curve: () => Curve) {
  /** The steps that are looked at; null is all, also those to come. */
  const range = ref<Range | null>(null)
  let chart: uPlot | undefined
  let observer: ResizeObserver | undefined

  function note(drawn: uPlot, scale: string): void {
    const { min, max } = drawn.scales.x ?? {}
    const [first, last] = [curve()[0]?.step, curve().at(-1)?.step]
    if (scale !== 'x' || typeof min !== 'number' || typeof max !== 'number' || first === undefined || last === undefined) return
    range.value = min <= first && max >= last ? null : [Math.max(first, Math.round(min)), Math.min(last, Math.round(max))]
  }

  /** Shows these steps; null shows all. */
  function zoom(to: Range | null): void {
    const [first, last] = [curve()[0]?.step ?? 0, curve().at(-1)?.step ?? 0]
    const [min, max] = to ?? [first, last]
    chart?.setScale('x', { min, max })
  }

  function draw(): void {
    if (!box.value) return
    const kept = range.value
    chart?.destroy()
    chart = new uPlot({ ...optionsOf(box.value.clientWidth), hooks: { setScale: [note] } }, dataOf(curve()), box.value)
    if (kept) zoom(kept)
  }

  onMounted(() => {
    draw()
    observer = new ResizeObserver(() => {
      if (box.value) chart?.setSize({ width: box.value.clientWidth, height: HEIGHT })
    })
    if (box.value) observer.observe(box.value)
  })
  onBeforeUnmount(() => {
    observer?.disconnect()
    chart?.destroy()
  })
  // What one looks at stays in view while steps come.
  watch(curve, (points) => {
    const kept = range.value
    chart?.setData(dataOf(points), kept === null)
    if (kept) zoom(kept)
  })
  watch(theme, () => setTimeout(draw))

  return { range, zoom }
}
