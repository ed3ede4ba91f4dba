import { createRouter, createWebHistory, type RouteRecordRaw } from 'vue-router'

import { text } from './text'

declare module 'vue-router' {
  interface RouteMeta {
    title: string
  }
}

const routes: RouteRecordRaw[] = [
  {
    path: '/',
    name: 'generate',
    meta: { title: text.nav.generate },
    component: () => import('./pages/generate/GeneratePage.vue'),
  },
  {
    path: '/gallery/:id?',
    name: 'gallery',
    meta: { title: text.nav.gallery },
    component: () => import('./pages/gallery/GalleryPage.vue'),
  },
  {
    path: '/train',
    name: 'train',
    meta: { title: text.nav.train },
    component: () => import('./pages/train/TrainPage.vue'),
  },
  {
    path: '/train/new',
    name: 'training-new',
    meta: { title: text.training.newTitle },
    component: () => import('./pages/train/NewTrainingPage.vue'),
  },
  {
    path: '/train/sessions/:id',
    name: 'training',
    meta: { title: text.training.title },
    component: () => import('./pages/train/TrainingPage.vue'),
  },
  {
    path: '/train/datasets/:id',
    name: 'dataset',
    meta: { title: text.datasets.title },
    component: () => import('./pages/datasets/DatasetPage.vue'),
  },
  {
    path: '/models',
    name: 'models',
    meta: { title: text.nav.models },
    component: () => import('./pages/models/ModelsPage.vue'),
  },
  {
    path: '/system',
    name: 'system',
    meta: { title: text.nav.system },
    component: () => import('./pages/system/SystemPage.vue'),
  },
  {
    path: '/login',
    name: 'login',
    meta: { title: text.login.title },
    component: () => import('./pages/login/LoginPage.vue'),
  },
  { path: '/:rest(.*)*', redirect: '/' },
]

export const router = createRouter({ history: createWebHistory(), routes })

/** Brings the code of every page, so that one can go there while the server is away, or has become another. */
export async function loadPages(): Promise<void> {
  for (const { component } of routes) {
    if (typeof component === 'function') await (component as () => Promise<unknown>)().catch(() => undefined)
  }
}

router.afterEach((to) => {
  document.title = `${to.meta.title} · ${text.name}`
})
