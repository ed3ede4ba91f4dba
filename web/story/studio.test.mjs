// The studio as a person meets it, chapter by chapter, each going on where the one before has ended.
import './studio/pictures.mjs'
import './studio/training.mjs'
import './studio/models.mjs'
import './studio/queue.mjs'
import './studio/browser.mjs'
