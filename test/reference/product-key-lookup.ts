// Product-key lookup by brute force over all pairs, in the order of
// native/ops/product_key_lookup.h.

import type { Gate } from '../../lib/index.js'

export interface LookupShape {
  T: number
  H: number
  n: number
  d: number
  k: number
}

/** NaN first, then value descending, then index ascending; -0 equals +0. */
export function before(a: number, i: number, b: number, j: number): boolean {
  if (Number.isNaN(a) || Number.isNaN(b))
    return Number.isNaN(a) === Number.isNaN(b) ? i < j : Number.isNaN(a)
  return a === b ? i < j : a > b
}

export function topK(x: ArrayLike<number>, k: number): number[] {
  const order = Array.from({ length: x.length }, (_, i) => i)
  return order.sort((i, j) => (before(x[i]!, i, x[j]!, j) ? -1 : 1)).slice(0, k)
}

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

export function gateOf(gate: Gate, scores: readonly number[]): number[] {
  if (gate === 'relu') return scores.map((s) => Math.max(0, s))
  if (gate === 'sigmoid') return scores.map((s) => 1 / (1 + Math.exp(-s)))
  if (gate === 'none') return [...scores]
  const most = Math.max(...scores)
  const e = scores.map((s) => Math.exp(s - most))
  const sum = e.reduce((a, b) => a + b, 0)
  return e.map((v) => v / sum)
}

/**
 * `round` is how half scores and their sums are rounded: Math.fround gives the very ties of
 * float32. The winners come from all pairs of the two half lists, sorted by (sum descending, rank
 * 1, rank 2).
 */
export function lookup(
  scores: ArrayLike<number>,
  { T, H, n, k }: LookupShape,
  gate: Gate,
  mask?: ArrayLike<number>,
  round = (x: number) => x,
) {
  const indices = new Int32Array(T * H * k).fill(-1)
  const sums = new Float64Array(T * H * k).fill(-Infinity)
  const weights = new Float64Array(T * H * k)
  const clamp = (x: number) => Math.max(-3.4028234663852886e38, Math.min(3.4028234663852886e38, x))
  for (let th = 0; th < T * H; th++) {
    const halves = [0, 1].map((p) => {
      const row = Array.from({ length: n }, (_, j) => round(scores[(th * 2 + p) * n + j]!))
      for (let j = 0; j < n; j++) if (mask && !mask[((th % H) * 2 + p) * n + j]) row[j] = -Infinity
      const selectable = topK(row, n).filter((j) => row[j] !== -Infinity)
      return { row, order: selectable.slice(0, k) }
    }) as [{ row: number[]; order: number[] }, { row: number[]; order: number[] }]
    const [one, two] = halves
    const nan = halves.some((h) => h.row.some(Number.isNaN))
    const pairs: { sum: number; i: number; j: number; slot: number }[] = []
    one.order.forEach((a, i) => {
      two.order.forEach((b, j) => {
        pairs.push({
          sum: clamp(round(clamp(one.row[a]!) + clamp(two.row[b]!))),
          i,
          j,
          slot: a * n + b,
        })
      })
    })
    const rank = two.order.length
    pairs.sort((p, q) => (before(p.sum, p.i * rank + p.j, q.sum, q.i * rank + q.j) ? -1 : 1))
    const won = pairs.slice(0, k)
    const w = gateOf(
      gate,
      won.map((p) => p.sum),
    )
    won.forEach((p, r) => {
      indices[th * k + r] = p.slot
      sums[th * k + r] = p.sum
      weights[th * k + r] = w[r]!
    })
    if (nan) weights.fill(Number.NaN, th * k, th * k + k)
  }
  return { indices, scores: sums, weights }
}

/** Gradients with the selection constant. */
export function lookupBackward(
  query: ArrayLike<number>,
  keys: ArrayLike<number>,
  { T, H, n, d, k }: LookupShape,
  gate: Gate,
  found: { indices: ArrayLike<number>; scores: ArrayLike<number>; weights: ArrayLike<number> },
  dWeights: ArrayLike<number>,
) {
  const dQuery = new Float64Array(query.length)
  const dKeys = new Float64Array(keys.length)
  for (let th = 0; th < T * H; th++) {
    const at = Array.from({ length: k }, (_, r) => th * k + r)
    const mean = at.reduce(
      (sum, i) => sum + (found.indices[i]! < 0 ? 0 : found.weights[i]! * dWeights[i]!),
      0,
    )
    for (const i of at) {
      const slot = found.indices[i]!
      if (slot < 0) continue
      const w = found.weights[i]!
      let ds = dWeights[i]!
      if (gate === 'softmax') ds = w * (dWeights[i]! - mean)
      if (gate === 'relu') ds = found.scores[i]! > 0 ? dWeights[i]! : 0
      if (gate === 'sigmoid') ds = dWeights[i]! * w * (1 - w)
      for (const [p, j] of [Math.floor(slot / n), slot % n].entries()) {
        const hp = (th % H) * 2 + p
        for (let c = 0; c < d; c++) {
          dQuery[(th * 2 + p) * d + c]! += ds * keys[(hp * n + j) * d + c]!
          dKeys[(hp * n + j) * d + c]! += ds * query[(th * 2 + p) * d + c]!
        }
      }
    }
  }
  return { dQuery, dKeys }
}
