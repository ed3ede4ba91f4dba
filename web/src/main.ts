import '@fontsource-variable/geist'
import './style.css'

import { VueQueryPlugin } from '@tanstack/vue-query'
import { createPinia } from 'pinia'
import { createApp } from 'vue'

import App from './App.vue'
import { onLoggedOut } from './api/client'
import { queryClient } from './api/queries'
import { router } from './router'
import { followTheme } from './stores/theme'

followTheme()
onLoggedOut(() => {
  const here = router.currentRoute.value
  if (here.name !== 'login') void router.replace({ name: 'login', query: { next: here.fullPath } })
})

createApp(App).use(createPinia()).use(router).use(VueQueryPlugin, { queryClient }).mount('#app')
