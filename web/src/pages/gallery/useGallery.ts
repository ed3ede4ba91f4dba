// Which pictures the gallery shows: the filter lives in the page's address.

import { useInfiniteQuery } from '@tanstack/vue-query'
import { computed } from 'vue'
import { useRoute, useRouter } from 'vue-router'

import { fetchGalleryPage, keys } from '@/api/queries'

import { filterOf } from './query'

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
