// What a scrolled element shows: its width, its height and how far it is scrolled.

import { onBeforeUnmount, onMounted, reactive, type Ref } from 'vue'

export function useViewport(element: Readonly<Ref<HTMLElement | null>>) {
  const viewport = reactive({ width: 0, height: 0, top: 0 })
  let observer: ResizeObserver | undefined
  let frame = 0

  function measure(): void {
    frame = 0
    const shown = element.value
    if (!shown) return
    const style = getComputedStyle(shown)
    viewport.width = shown.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
    viewport.height = shown.clientHeight
    viewport.top = shown.scrollTop
  }

  function note(): void {
    frame ||= requestAnimationFrame(measure)
  }

  onMounted(() => {
    measure()
    element.value?.addEventListener('scroll', note, { passive: true })
    observer = new ResizeObserver(note)
    if (element.value) observer.observe(element.value)
  })
  onBeforeUnmount(() => {
    cancelAnimationFrame(frame)
    observer?.disconnect()
  })
  return viewport
}
