// scores[t, h, p, j] = <query[t, h, p], keys[h, p, j]> in float64.

import type { LookupShape } from './product-key-lookup.js'

export function halfScores(
  query: ArrayLike<number>,
  keys: ArrayLike<number>,
  { T, H, n, d }: LookupShape,
): Float64Array {
  const scores = new Float64Array(T * H * 2 * n)
  for (let t = 0; t < T; t++)
    for (let hp = 0; hp < 2 * H; hp++)
      for (let j = 0; j < n; j++) {
        let sum = 0
        for (let c = 0; c < d; c++)
          sum += query[(t * 2 * H + hp) * d + c]! * keys[(hp * n + j) * d + c]!
        scores[(t * 2 * H + hp) * n + j] = sum
      }
  return scores
}
