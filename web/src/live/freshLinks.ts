// Links of pictures are valid for an hour. A page that comes back into view later than that asks for new ones.

import { queryClient } from '@/api/queries'

/** Less than the server promises. */
const VALID_MS = 50 * 60 * 1000

/** Keeps the links of this page valid. */
export function keepLinksFresh(): void {
  let readAt = Date.now()
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible' || Date.now() - readAt < VALID_MS) return
    readAt = Date.now()
    void queryClient.invalidateQueries()
  })
}
