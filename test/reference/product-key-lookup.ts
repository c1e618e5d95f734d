// Product-key lookup by brute force over all pairs of half-keys, in the order of
// native/ops/product_key_lookup.h. A head of a token is numbered th = t * H + h, its half p
// th * 2 + p.

import type { Gate } from '../../lib/index.js'
import { sigmoid } from './activation.js'
import { softmax } from './softmax.js'
import { topK } from './topk.js'

export interface LookupShape {
  T: number
  H: number
  n: number
  d: number
  k: number
}

export interface LookupData {
  /** [T, H, k]; -1 where fewer than k slots can be selected. */
  indices: ArrayLike<number>
  scores: ArrayLike<number>
  weights: ArrayLike<number>
}

const maxFloat32 = 3.4028234663852886e38
const clamp = (x: number) => Math.max(-maxFloat32, Math.min(maxFloat32, x))

export function gateOf(gate: Gate, scores: readonly number[]): number[] {
  if (gate === 'relu') return scores.map((s) => Math.max(0, s))
  if (gate === 'sigmoid') return scores.map(sigmoid)
  if (gate === 'none') return [...scores]
  return Array.from(softmax(scores, scores.length))
}

/** The score of one slot for head `th`: the sum of the scores of its two half-keys. */
export function slotScore(
  halfScores: ArrayLike<number>,
  n: number,
  th: number,
  slot: number,
): number {
  const [i, j] = [Math.floor(slot / n), slot % n]
  return halfScores[th * 2 * n + i]! + halfScores[(th * 2 + 1) * n + j]!
}

/**
 * The k best slots of each head. `round` is how half scores and their sums are rounded: Math.fround
 * gives the very ties of float32. Of all pairs of the two sorted halves, the first k by score
 * descending, then by rank in the first half, then by rank in the second.
 */
export function lookup(
  halfScores: ArrayLike<number>,
  { T, H, n, k }: LookupShape,
  gate: Gate,
  mask?: ArrayLike<number>,
  round = (x: number) => x,
) {
  const indices = new Int32Array(T * H * k).fill(-1)
  const scores = new Float64Array(T * H * k).fill(-Infinity)
  const weights = new Float64Array(T * H * k)
  for (let th = 0; th < T * H; th++) {
    const half = (p: number) =>
      Array.from({ length: n }, (_, j) => {
        const masked = mask && !mask[((th % H) * 2 + p) * n + j]
        return masked ? -Infinity : round(halfScores[(th * 2 + p) * n + j]!)
      })
    const best = bestSlots(half(0), half(1), k, round)
    const gated = gateOf(
      gate,
      best.slots.map((s) => s.score),
    )
    for (const [r, { slot, score }] of best.slots.entries()) {
      indices[th * k + r] = slot
      scores[th * k + r] = score
      weights[th * k + r] = gated[r]!
    }
    if (best.nan) weights.fill(Number.NaN, th * k, th * k + k)
  }
  return { indices, scores, weights }
}

function bestSlots(
  first: readonly number[],
  second: readonly number[],
  k: number,
  round: (x: number) => number,
) {
  const n = first.length
  const ranked = (half: readonly number[]) =>
    topK(half, n)
      .filter((j) => half[j] !== -Infinity)
      .slice(0, k)
  const [ranks1, ranks2] = [ranked(first), ranked(second)]
  const pairs = ranks1.flatMap((i) =>
    ranks2.map((j) => ({
      slot: i * n + j,
      score: clamp(round(clamp(first[i]!) + clamp(second[j]!))),
    })),
  )
  const order = topK(
    pairs.map((p) => p.score),
    k,
  )
  return {
    slots: order.map((i) => pairs[i]!),
    nan: [...first, ...second].some(Number.isNaN),
  }
}

/** Gradients with the selection constant. */
export function lookupBackward(
  query: ArrayLike<number>,
  keys: ArrayLike<number>,
  { T, H, n, d, k }: LookupShape,
  gate: Gate,
  found: LookupData,
  dWeights: ArrayLike<number>,
) {
  const dQuery = new Float64Array(query.length)
  const dKeys = new Float64Array(keys.length)
  for (let th = 0; th < T * H; th++) {
    const entries = Array.from({ length: k }, (_, r) => th * k + r).filter(
      (e) => found.indices[e]! >= 0,
    )
    const mean = entries.reduce((sum, e) => sum + found.weights[e]! * dWeights[e]!, 0)
    for (const e of entries) {
      const w = found.weights[e]!
      let ds = dWeights[e]!
      if (gate === 'softmax') ds = w * (dWeights[e]! - mean)
      if (gate === 'relu') ds = found.scores[e]! > 0 ? dWeights[e]! : 0
      if (gate === 'sigmoid') ds = dWeights[e]! * w * (1 - w)
      const slot = found.indices[e]!
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
