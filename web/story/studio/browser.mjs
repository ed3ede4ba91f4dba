// What a browser makes of the page: touch, tabs, connections, screens.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { open, SIZES } from '../browser.mjs'
import { hear } from '../events.mjs'
import { lookAt } from '../pages.mjs'
import { browser, faults, found, goTo, inOther, page, PROMPT, server } from './stage.mjs'

test('on a touch screen a finger goes to the next picture', async () => {
  const phone = await browser.newContext({ viewport: SIZES.phone, hasTouch: true, isMobile: true, baseURL: server.address })
  const other = await phone.newPage()
  await other.goto(found.picture)
  const picture = (name) => other.getByRole('dialog', { name: 'Picture' }).getByRole('img', { name })
  await picture(PROMPT).waitFor()
  await other.getByRole('button', { name: 'Previous picture' }).waitFor()
  const { x, y, width, height } = await picture(PROMPT).boundingBox()
  const touch = await phone.newCDPSession(other)
  const at = (part) => [{ x: x + part * width, y: y + height / 2 }]
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: at(0.2) })
  await touch.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: at(0.8) })
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
  await picture('cat, TOK style').waitFor()
  await phone.close()
})

test('two tabs share one event stream', async () => {
  const count = async () => {
    const metrics = await (await fetch(`${server.address}/metrics`)).text()
    const line = metrics.split('\n').find((text) => text.includes('"/api/events"') && !text.startsWith('#'))
    return Number(line?.split(' ').pop())
  }
  const before = await count()
  await inOther(async (other) => {
    await other.goto('/system')
    await other.getByText('Nothing is running or waiting').waitFor()
    await page.getByRole('button', { name: 'Pause the queue' }).click()
    await other.getByText('The queue is paused.').waitFor()
    await page.getByRole('button', { name: 'Resume the queue' }).click()
  })
  assert.equal(await count(), before)
})

test('a page that one only looks at asks nothing, and is told how the machine is', async () => {
  await goTo('Queue')
  await page.getByText(/ in use$/).waitFor()
  await hear(server.address, 'system', 1)
  const asked = []
  const note = (request) => asked.push(request.url())
  page.on('request', note)
  await hear(server.address, 'system', 2)
  page.off('request', note)
  assert.deepEqual(asked, [])
})

test('a server that does not answer is told of once, and asked again by hand', async () => {
  const { context: own, page: other } = await open(browser, server.address)
  await own.route('**/api/**', (route) => route.abort())
  await other.goto('/')
  await other.getByText('The server cannot be reached').waitFor()
  assert.equal(await other.getByRole('alert').count(), 1)
  await own.unroute('**/api/**')
  await other.getByRole('button', { name: 'Try again' }).click()
  await other.getByRole('button', { name: 'Generate' }).waitFor()
  await own.close()
})

test('one can go to every page while the server is away', async () => {
  const { context: own, page: other } = await open(browser, server.address)
  const loaded = other.waitForResponse(/LoginPage-[^/]+\.js$/) // the last of all pages
  await other.goto('/')
  await loaded
  await own.setOffline(true)
  for (const name of ['Gallery', 'Train', 'Models', 'Queue']) {
    await other.getByRole('navigation').getByRole('link', { name }).click()
    await other.getByRole('heading', { level: 1, name: name === 'Queue' ? 'Queue and system' : name }).waitFor({ state: 'attached' })
  }
  await own.close()
})

test('nothing went wrong in the browser, and nothing was asked of another machine', () => {
  assert.deepEqual(faults, [])
})

test('every page is accessible and fits its screen, dark, light and on a phone', async () => {
  await lookAt(browser, server.address, {
    generate: '/',
    gallery: '/gallery',
    picture: found.picture,
    train: '/train',
    dataset: found.dataset,
    training: found.training,
    'training-new': '/train/new',
    models: '/models',
    system: '/system',
  })
})
