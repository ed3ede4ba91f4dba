// What a browser loads before it shows the first page must stay small: the entry, what it imports, its styles, and the
// Generate page, gzipped.
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const LIMIT_KB = 250
const FIRST_PAGE = 'src/pages/generate/GeneratePage.vue'

const manifest = JSON.parse(readFileSync('dist/.vite/manifest.json', 'utf8'))
const files = new Set()

function gather(name) {
  const chunk = manifest[name]
  if (files.has(chunk.file)) return
  files.add(chunk.file)
  chunk.css?.forEach((file) => files.add(file))
  chunk.imports?.forEach(gather)
}

gather('index.html')
gather(FIRST_PAGE)
const sizes = [...files].map((file) => [gzipSync(readFileSync(`dist/${file}`)).length / 1000, file])
const total = sizes.reduce((sum, [size]) => sum + size, 0)
for (const [size, file] of sizes.sort((a, b) => b[0] - a[0])) console.log(`${size.toFixed(1).padStart(7)} kB  ${file}`)
console.log(`${total.toFixed(1).padStart(7)} kB  gzipped before the first page; the limit is ${LIMIT_KB} kB`)
if (total > LIMIT_KB) process.exit(1)
