// The machine. The event stream tells how it is every few seconds, so that it is asked once.

import { useQuery } from '@tanstack/vue-query'

import { ask, client } from '@/api/client'
import { keys } from '@/api/queries'

export const useSystem = () =>
  useQuery({ queryKey: keys.system, queryFn: () => ask(client.GET('/api/system')) })

export const useReady = () =>
  useQuery({
    queryKey: keys.ready,
    // Not being ready is an answer too.
    queryFn: async () => {
      const { data, error } = await client.GET('/ready')
      return data ?? error
    },
    staleTime: 0,
  })
