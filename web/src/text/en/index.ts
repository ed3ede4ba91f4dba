// English.

import { common } from './common'
import { datasets } from './datasets'
import { gallery } from './gallery'
import { generate } from './generate'
import { models } from './models'
import { pictures } from './pictures'
import { system } from './system'
import { training } from './training'

export const english = { ...common, ...pictures, generate, gallery, models, datasets, training, system }
