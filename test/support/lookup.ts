import { expect } from 'vitest'
import { type Device, type Gate, type Lookup, ops } from '../../lib/index.js'
import type { LookupData, LookupShape } from '../reference/product-key-lookup.js'
import { randomTensor } from './random.js'

export const gates: Gate[] = ['softmax', 'relu', 'sigmoid', 'none']

const shapes: LookupShape[] = [
  { T: 1, H: 1, n: 1, d: 1, k: 1 },
  { T: 3, H: 2, n: 5, d: 3, k: 5 },
  { T: 7, H: 3, n: 50, d: 10, k: 5 },
  { T: 5, H: 1, n: 33, d: 24, k: 32 },
  { T: 60, H: 2, n: 100, d: 17, k: 8 },
  { T: 50, H: 4, n: 128, d: 32, k: 32 },
  { T: 2, H: 4, n: 300, d: 64, k: 16 },
  { T: 100, H: 1, n: 600, d: 128, k: 64 },
  { T: 6, H: 1, n: 200, d: 500, k: 100 },
  { T: 4, H: 2, n: 3, d: 8, k: 7 },
  { T: 9, H: 2, n: 2, d: 8, k: 7 },
  { T: 2, H: 1, n: 1, d: 5, k: 3 },
  { T: 65, H: 1, n: 129, d: 16, k: 1 },
  { T: 33, H: 2, n: 136, d: 40, k: 33 },
  { T: 3, H: 1, n: 400, d: 16, k: 200 },
  { T: 2, H: 1, n: 40, d: 3, k: 300 },
]

/** Shapes by name, for test.each. */
export const lookupShapes = shapes.map(
  (s) => [`T ${s.T} H ${s.H} n ${s.n} d ${s.d} k ${s.k}`, s] as const,
)

/** query [T, H, 2, d] and keys [H, 2, n, d]. */
export function lookupInputs(device: Device, { T, H, n, d }: LookupShape, seed: number) {
  return {
    query: randomTensor(device, [T, H, 2, d], seed),
    keys: randomTensor(device, [H, 2, n, d], seed + 1),
  }
}

/** What a lookup found, as numbers. */
export async function dataOf(found: Lookup) {
  return {
    indices: await found.indices.data(),
    scores: await found.scores.data(),
    weights: await found.weights.data(),
  }
}

/** The lookup of numbers, with softmax; the mask is [H, 2, n]. */
export function lookupOf(
  device: Device,
  { T, H, n, d, k }: LookupShape,
  query: Float32Array,
  keys: Float32Array,
  mask?: Uint8Array,
) {
  const found = ops.productKeyLookup(
    device.tensor(query, [T, H, 2, d]),
    device.tensor(keys, [H, 2, n, d]),
    { knn: k, ...(mask && { mask: device.tensor(mask, [H, 2, n]) }) },
  )
  return dataOf(found)
}

/**
 * Indices must be the wanted ones where neighbouring scores differ by more than rounding; elsewhere
 * either order is right. Padding entries must be padding entries.
 */
export function expectIndices(
  indices: ArrayLike<number>,
  wanted: Pick<LookupData, 'indices' | 'scores'>,
  k: number,
): void {
  for (let i = 0; i < wanted.indices.length; i++) {
    const rank = i % k
    const differs = (j: number) => Math.abs(wanted.scores[i]! - wanted.scores[j]!) > 1e-5
    const clear = (rank === 0 || differs(i - 1)) && rank < k - 1 && differs(i + 1)
    const index = wanted.indices[i]
    if (clear || index === -1) expect(indices[i], `indices[${i}]`).toBe(index)
  }
}

/** Indices and scores must be exactly the wanted ones; -0 equals +0. */
export function expectExactly(
  found: Pick<LookupData, 'indices' | 'scores'>,
  wanted: Pick<LookupData, 'indices' | 'scores'>,
  label?: string,
): void {
  const scores = (l: Pick<LookupData, 'scores'>) => Array.from(l.scores, (v) => v + 0)
  expect(Array.from(found.indices), label).toEqual(Array.from(wanted.indices))
  expect(scores(found), label).toEqual(scores(wanted))
}
