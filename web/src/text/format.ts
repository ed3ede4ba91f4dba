// Numbers, times and sizes as people write them.

export const number = new Intl.NumberFormat('en')
export const many = (count: number, one: string, other: string) => `${number.format(count)} ${count === 1 ? one : other}`

/** As people say it: `8 s`, `2 min 5 s`, `1 h 20 min`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) {
    if (seconds < 0.95) return `${Math.round(seconds * 1000)} ms`
    return seconds < 10 ? `${seconds.toFixed(1)} s` : `${whole} s`
  }
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return whole % 60 === 0 ? `${minutes} min` : `${minutes} min ${whole % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, count)) / 3)))
  const value = count / 1000 ** power
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

export function moment(time: string): string {
  return new Date(time).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })
}

/** The server's own words begin in lower case. */
export const sentence = (words: string) => words.charAt(0).toUpperCase() + words.slice(1)
