import { expect, it } from 'vitest'

import { parcels } from './useUploads'

const file = (name: string) => new File(['x'], name)

it('a picture travels with its caption, whatever the order', () => {
  const grouped = parcels([file('dog.txt'), file('cat.jpg'), file('dog.png'), file('all.zip')])
  expect(grouped.map(({ name, files }) => [name, files.length])).toEqual([
    ['dog.png', 2],
    ['cat.jpg', 1],
    ['all.zip', 1],
  ])
})

it('a caption alone travels alone', () => {
  expect(parcels([file('dog.txt')]).map(({ name }) => name)).toEqual(['dog.txt'])
})
