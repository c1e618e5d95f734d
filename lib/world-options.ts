// Options of collectives, and what is counted of them.

import { describeValue } from './describe.js'
import { fail } from './errors.js'
import { checkChoice, checkOptions } from './options.js'
import type { Tensor } from './tensor.js'

// In the order of native/layer/collectives.h.
const combinations = ['sum', 'mean'] as const

/** Options of {@link World.allReduce}. */
export interface AllReduceOptions {
  /** Default 'sum'. */
  combine?: 'sum' | 'mean'
}

/** Options of {@link World.split}. */
export interface SplitOptions {
  /** Ranks of one colour, an integer from 0, are a group. */
  color: number
  /** Orders the ranks of the group, those of one key by their rank here. Default: the rank here. */
  key?: number
}

/** Calls of one collective so far, and the bytes that this rank has sent to and got from others. */
export interface CollectiveTraffic {
  /** Of this collective. */
  calls: number
  /** Bytes to other ranks. */
  sent: number
  /** Bytes from other ranks. */
  received: number
}

/** The native number of `combine`. */
export function combination(where: string, options: AllReduceOptions): number {
  const { combine } = checkOptions(where, options, ['combine'])
  return combinations.indexOf(checkChoice(where, 'combine', combine ?? 'sum', combinations))
}

/** Rows for each of so many ranks: as many for each. @throws ERR_SHAPE */
export function equalParts(where: string, x: Tensor, ranks: number): number[] {
  const rows = x.shape[0] ?? 0
  if (rows % ranks !== 0) {
    const requirement = `have rows that ${ranks} ranks divide, or a number for each`
    fail('ERR_SHAPE', where, 'x', requirement, describeValue(x))
  }
  return new Array(ranks).fill(rows / ranks)
}
