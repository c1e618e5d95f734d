import fc from 'fast-check'
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

/** Lengths of ragged bags, empty ones anywhere; a width of rows; a seed. */
export const raggedShapes = [
  fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 12 }),
  fc.integer({ min: 1, max: 40 }),
  fc.nat(1000),
] as const

/** Ragged bags of these lengths, with padding entries, over a table [11, V]. */
export function randomRaggedBags(device: Device, lengths: number[], V: number, seed: number) {
  const offsets = [0]
  for (const length of lengths) offsets.push(offsets.at(-1)! + length)
  const entries = offsets.at(-1)!
  const table = randomTensor(device, [11, V], seed)
  const weights = randomTensor(device, [entries], seed + 1)
  const indices = integers(entries, -1, 11, seed + 2)
  const bags: Bags = { indices, weights: weights.data, offsets }
  return {
    table,
    weights,
    indices: device.tensor(indices),
    offsets: device.tensor(Int32Array.from(offsets)),
    bags,
  }
}
