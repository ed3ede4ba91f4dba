// What goes between the one event stream of a browser and its tabs.

/** A message of `/api/events`. */
export type ServerEvent = { job_id: string; event: string; details: Record<string, unknown> }

export type LiveMessage =
  | { kind: 'event'; event: ServerEvent }
  | { kind: 'state'; connected: boolean }
