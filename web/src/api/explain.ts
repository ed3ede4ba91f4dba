// An error in words for people.

import { text } from '@/text'

import { Refusal } from './client'

/** The server's own words begin in lower case. */
export const sentence = (words: string) => words.charAt(0).toUpperCase() + words.slice(1)

export function explain(error: unknown): string {
  if (error instanceof Refusal) return sentence(error.message)
  if (error instanceof TypeError) return text.errors.unreachable
  return error instanceof Error ? sentence(error.message) : text.errors.unknown
}
