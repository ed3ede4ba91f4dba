// Every word that a person reads. Another language is a folder beside `en` whose words have the type `Words`.

import { english } from './en'

export { bytes, duration, moment, sentence } from './format'

export type Words = typeof english

export const text: Words = english
