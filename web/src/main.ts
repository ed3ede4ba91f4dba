import '@fontsource-variable/geist'
import './style.css'

import { VueQueryPlugin } from '@tanstack/vue-query'
import { createPinia } from 'pinia'
import { createApp } from 'vue'

import App from './App.vue'
import { onLoggedOut } from './api/client'
import { queryClient } from './api/queries'
import { keepLinksFresh } from './live/freshLinks'
import { loadPages, router } from './router'
import { followTheme } from './stores/theme'

keepLinksFresh()
followTheme()
onLoggedOut(() => {
  const here = router.currentRoute.value
  if (here.name !== 'login') void router.replace({ name: 'login', query: { next: here.fullPath } })
})

createApp(App).use(createPinia()).use(router).use(VueQueryPlugin, { queryClient }).mount('#app')

/** After the first page has all that it shows. */
const LOAD_REST_MS = 1500
setTimeout(() => void loadPages(), LOAD_REST_MS)
