import type { Device } from '../../lib/index.js'
import { type Bags, fixedOffsets } from '../reference/embedding-bag.js'
import { integers, randomTensor } from './random.js'

export interface BagShape {
  /** Bags. */
  B: number
  /** Entries of a bag. */
  L: number
  /** Rows of the table. */
  N: number
  /** Their width. */
  V: number
}

/** B random bags of L entries each over a table [N, V], and a gradient dy [B, V]. */
export function randomBags(device: Device, { B, L, N, V }: BagShape, seed: number) {
  const table = randomTensor(device, [N, V], seed)
  const weights = randomTensor(device, [B, L], seed + 1)
  const indices = integers(B * L, 0, N, seed + 2)
  const bags: Bags = { indices, weights: weights.data, offsets: fixedOffsets(B, L) }
  return {
    table,
    weights,
    indices: device.tensor(indices, [B, L]),
    dy: randomTensor(device, [B, V], seed + 7),
    bags,
  }
}
