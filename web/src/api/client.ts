// The one door to the server. Paths and shapes are those of openapi.json.

import createClient from 'openapi-fetch'

import type { components, paths } from './schema'

export type Schemas = components['schemas']
export type Generation = Schemas['GenerationView']
export type GenerateBody = Schemas['GenerateBody']
export type Lora = Schemas['ModelView']
export type BaseModel = Schemas['BaseModelView']
export type Install = Schemas['InstallView']
export type System = Schemas['SystemView']
export type Progress = Schemas['ProgressNumbers']

/** What the server refused, in its own words. */
export class Refusal extends Error {
  readonly status: number
  readonly code: string
  readonly field: string | null

  constructor(status: number, code: string, message: string, field: string | null) {
    super(message)
    this.status = status
    this.code = code
    this.field = field
  }
}

// Looked up at each call, so that tests can put their own in its place.
export const client = createClient<paths>({ baseUrl: location.origin, fetch: (request) => fetch(request) })

let loggedOut: () => void = () => undefined

/** Called whenever the server asks for its key. */
export function onLoggedOut(run: () => void): void {
  loggedOut = run
}

type Answer<T> = { data?: T; error?: unknown; response: Response }

/** The answer's data; a refusal is thrown. */
export async function ask<T>(request: Promise<Answer<T>>): Promise<T> {
  return (await answer(request)).data as T
}

/** As `ask`, with the answer's head. */
export async function answer<T>(request: Promise<Answer<T>>): Promise<Answer<T>> {
  const answered = await request
  if (!answered.response.ok) throw refusal(answered.response.status, answered.error)
  return answered
}

export function refusal(status: number, body: unknown): Refusal {
  if (status === 401) loggedOut()
  const error = (body as Partial<Schemas['ErrorBody']> | undefined)?.error
  return new Refusal(status, error?.code ?? 'unknown', error?.message ?? `HTTP ${status}`, error?.field ?? null)
}

/** The cursor of the next page, as its `Link` header tells. */
export function nextCursor(response: Response): string | null {
  const link = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')
  return link?.[1] ? new URL(link[1], location.origin).searchParams.get('cursor') : null
}
