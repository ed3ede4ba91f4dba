// Which pictures the gallery shows: the filter lives in the page's address.

import { useInfiniteQuery } from '@tanstack/vue-query'
import { computed } from 'vue'
import { useRoute, useRouter } from 'vue-router'

import { everything, type GalleryFilter } from '@/api/filter'
import { fetchGalleryPage, keys } from '@/api/queries'

export const ages = { any: 0, day: 1, week: 7, month: 31 } as const
export type Age = keyof typeof ages

const DAY_MS = 86_400_000

/** The words of the address in the server's terms. */
export function filterOf(query: Record<string, unknown>, now: number): GalleryFilter {
  const word = (name: string) => (typeof query[name] === 'string' ? query[name] : '')
  const days = ages[word('age') as Age] ?? 0
  // To the hour, so that the same question stays the same for a while.
  const since = Math.floor((now - days * DAY_MS) / 3_600_000) * 3_600_000
  return {
    ...everything,
    q: word('q'),
    status: word('status') || everything.status,
    favorite: word('favorite') === 'yes',
    base: word('base'),
    lora: word('lora'),
    after: days === 0 ? '' : new Date(since).toISOString(),
  }
}

export function useGallery() {
  const route = useRoute()
  const router = useRouter()
  const filter = computed(() => filterOf(route.query, Date.now()))
  const isFiltered = computed(() => Object.keys(route.query).length > 0)

  const pages = useInfiniteQuery({
    queryKey: computed(() => keys.gallery(filter.value)),
    queryFn: ({ pageParam }) => fetchGalleryPage(filter.value, pageParam),
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
    // Ten thousand rows are neither compared with themselves nor made reactive one by one.
    structuralSharing: false,
    shallow: true,
  })
  const jobs = computed(() => pages.data.value?.pages.flatMap((page) => page.jobs) ?? [])

  /** Changes words of the address; empty ones go away. */
  function set(words: Record<string, string>): void {
    const query = Object.entries({ ...route.query, ...words }).filter(([, value]) => value !== '')
    void router.replace({ name: 'gallery', params: {}, query: Object.fromEntries(query) })
  }

  function clear(): void {
    void router.replace({ name: 'gallery', params: {}, query: {} })
  }

  async function more(): Promise<void> {
    if (pages.hasNextPage.value && !pages.isFetchingNextPage.value && !pages.isFetchNextPageError.value) {
      await pages.fetchNextPage()
    }
  }

  return { filter, isFiltered, pages, jobs, set, clear, more }
}
