// Texts compared without sending them.

import { MemoryLayersError } from './errors.js'

/** Numbers that differ where texts do: FNV-1a over UTF-16, twice, and the length. */
export function digest(text: string): number[] {
  const hash = (seed: number): number => {
    let h = seed
    for (let i = 0; i < text.length; ++i) h = Math.imul(h ^ text.charCodeAt(i), 16777619)
    return h >>> 0
  }
  return [hash(2166136261), hash(40503), text.length]
}

/**
 * @param digests of the texts of `members`, ranks of the world
 * @throws ERR_DISTRIBUTED with the first rank whose text differs from the first one's
 */
export function checkSame(
  what: string,
  text: string,
  digests: readonly number[][],
  members: readonly number[],
  own: number,
): void {
  const other = digests.findIndex((digest) => String(digest) !== String(digests[0]))
  if (other < 0) return
  const rank = members[other] as number
  throw new MemoryLayersError(
    'ERR_DISTRIBUTED',
    `distributed: ${what} must be the same on every rank, and rank ${rank} has another than ` +
      `rank ${members[0]}.\n  Here, on rank ${members[own]}: ${text.slice(0, 300)}`,
    rank,
  )
}
