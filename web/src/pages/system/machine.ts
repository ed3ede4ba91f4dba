// What the server tells about its machine and workers, which the interface leaves open, with a shape.

export type Machine = {
  processor?: string
  features?: string[]
  threads?: number
  kernels?: string
  devices?: string[]
  memory?: { total_bytes: number; available_bytes: number } | null
}

export type WorkerState = {
  device?: string
  dtype?: string
  offload?: string
  queues?: string[]
  loaded_models?: string[]
  jobs_done?: number
  steps?: number
  step_seconds?: number
}
