// The machine, asked again every few seconds while it is looked at: memory sends no events.

import { useQuery } from '@tanstack/vue-query'

import { ask, client } from '@/api/client'
import { keys } from '@/api/queries'

const EVERY_MS = 10_000

export const useSystem = () =>
  useQuery({
    queryKey: keys.system,
    queryFn: () => ask(client.GET('/api/system')),
    refetchInterval: EVERY_MS,
    staleTime: 0,
  })

export const useReady = () =>
  useQuery({
    queryKey: [...keys.system, 'ready'],
    // Not being ready is an answer too.
    queryFn: async () => {
      const { data, error } = await client.GET('/ready')
      return data ?? error
    },
    refetchInterval: EVERY_MS,
    staleTime: 0,
  })
