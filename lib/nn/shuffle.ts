// A random order of 0 … count - 1 without memory: the position of each number is computed from a
// seed, so a run can go on anywhere in it.

/** A mixture of 32 bits in which each bit depends on all (the finaliser of MurmurHash3). */
function mix(x: number): number {
  let h = x | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

const rounds = 6

/**
 * The number at `position` of the order that `seed` and `epoch` give: a Feistel network over the
 * next power of four, walked until it falls below `count`.
 */
export function shuffled(position: number, count: number, seed: number, epoch: number): number {
  if (count <= 1) return 0
  const half = Math.ceil(Math.log2(count) / 2)
  const mask = 2 ** half - 1
  const high = Math.floor(seed / 2 ** 32)
  const key = mix(mix(mix(seed) ^ high) ^ Math.imul(epoch + 1, 0x9e3779b1))
  let at = position
  do {
    let left = Math.floor(at / (mask + 1))
    let right = at % (mask + 1)
    for (let round = 0; round < rounds; round++)
      [left, right] = [right, left ^ (mix(right ^ mix(key + round)) & mask)]
    at = left * (mask + 1) + right
  } while (at >= count)
  return at
}
