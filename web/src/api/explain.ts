// An error in words for people.

import { sentence, text } from '@/text'

import { Refusal } from './client'

export function explain(error: unknown): string {
  if (error instanceof Refusal) return sentence(error.message)
  if (error instanceof TypeError) return text.errors.unreachable
  return error instanceof Error ? sentence(error.message) : text.errors.unknown
}
