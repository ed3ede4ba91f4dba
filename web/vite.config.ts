import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync } from 'node:zlib'

import tailwind from '@tailwindcss/vite'
import vue from '@vitejs/plugin-vue'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

/** Where `npm run dev` finds the server. */
const SERVER = process.env.MASUKA_SERVER ?? 'http://127.0.0.1:8000'

/** Beside each file its packed twin, which the server sends to browsers that take it. */
function packed(): Plugin {
  return {
    name: 'packed',
    apply: 'build',
    closeBundle() {
      const folder = fileURLToPath(new URL('dist', import.meta.url))
      for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
        const path = join(folder, name)
        if (!/\.(js|css|html|svg|txt)$/.test(name) || statSync(path).size < 1024) continue
        writeFileSync(`${path}.br`, brotliCompressSync(readFileSync(path)))
      }
    },
  }
}

export default defineConfig({
  plugins: [vue(), tailwind(), packed()],
  resolve: { alias: { '@': fileURLToPath(new URL('src', import.meta.url)) } },
  build: { target: 'es2022', assetsInlineLimit: 0, manifest: true },
  worker: { format: 'es' },
  server: {
    proxy: Object.fromEntries(['/api', '/files'].map((path) => [path, { target: SERVER, changeOrigin: true }])),
  },
  test: { environment: 'happy-dom', include: ['src/**/*.test.ts'] },
})
