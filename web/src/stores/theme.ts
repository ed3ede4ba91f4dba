// Light, dark, or as the system has it.

import { ref, watchEffect } from 'vue'

export const themes = ['system', 'light', 'dark'] as const
export type Theme = (typeof themes)[number]

const KEY = 'masuka-theme'
const known = themes.find((theme) => theme === localStorage.getItem(KEY))
export const theme = ref<Theme>(known ?? 'system')

/** Keeps the page in the chosen theme. */
export function followTheme(): void {
  const system = matchMedia('(prefers-color-scheme: dark)')
  const systemIsDark = ref(system.matches)
  system.addEventListener('change', () => (systemIsDark.value = system.matches))
  watchEffect(() => {
    localStorage.setItem(KEY, theme.value)
    const isDark = theme.value === 'dark' || (theme.value === 'system' && systemIsDark.value)
    document.documentElement.dataset.theme = isDark ? 'dark' : 'light'
  })
}
