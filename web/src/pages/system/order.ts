// Where a row stands among others.

/** The list with the item at `from` standing at `to`. */
export function moved<T>(list: T[], from: number, to: number): T[] {
  const item = list[from]
  if (item === undefined) return list
  const others = list.filter((_, i) => i !== from)
  const at = Math.min(others.length, Math.max(0, to))
  return [...others.slice(0, at), item, ...others.slice(at)]
}

/** The place of `id` in the server's words: before the next, or after the one that is then last. */
export function placeOf(ids: string[], id: string): { before: string } | { after: string } | null {
  const at = ids.indexOf(id)
  const [next, last] = [ids[at + 1], ids[at - 1]]
  if (at < 0) return null
  if (next !== undefined) return { before: next }
  return last === undefined ? null : { after: last }
}

/** The rows in the order of `ids`; those that it does not name come last, as they are. */
export function inOrder<T extends { id: string }>(rows: T[], ids: string[] | null): T[] {
  if (!ids) return rows
  const at = ({ id }: T) => (ids.includes(id) ? ids.indexOf(id) : ids.length)
  return [...rows].sort((a, b) => at(a) - at(b))
}
