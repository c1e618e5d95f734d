// x / (1 - p) where an element's random word is p * 2^32 or more, else 0.

import { randomWords } from './philox.js'

export function dropout(
  x: ArrayLike<number>,
  { p, seed, step }: { p: number; seed: number; step: number },
): Float64Array {
  return Float64Array.from(x, (v, i) => {
    const words = randomWords(BigInt(i >> 2), seed, step, 1)
    return words[i % 4]! < Math.floor(p * 2 ** 32) ? 0 : v / (1 - p)
  })
}
