// The loops of bench/native: what this machine can do at best. A checkout builds them with
// `npm run build:native`.

import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { TensorHandle } from '../binding.js'

declare const handle: unique symbol
export interface Memory {
  readonly [handle]: 'memory'
}
interface RowList {
  readonly [handle]: 'rows'
}
/** A cache to prefetch into: L1d or L2. */
export type Level = 1 | 2

export interface Ceilings {
  /** Memory in huge pages, all touched. Freed when collected. */
  allocate(bytes: number): Memory
  /** A list of rows, each in [0, slots). */
  rowList(rows: Int32Array, slots: number): RowList
  /**
   * Reads the listed rows, and of each its float32 in `scales`. Prefetches `distance` rows ahead
   * into `level`, and `l1Distance` rows ahead into L1d; 0 for none. `unrolled`: rows of 1, 2, 4, 8
   * or 16 cache lines by a loop of their own, which leaves `l1Distance` out. Returns the sum of all
   * 32-bit words of the last chunk.
   */
  gather(
    memory: Memory | TensorHandle,
    scales: Memory | TensorHandle | undefined,
    rows: RowList,
    rowBytes: number,
    distance: number,
    l1Distance: number,
    level: Level,
    unrolled: boolean,
    threads: number,
  ): number
  /**
   * Adds one to every float of the listed rows in each of `tables` tables, `stride` bytes apart,
   * and, with `rowState`, to a float of each row behind them.
   */
  update(
    memory: Memory,
    rows: RowList,
    rowBytes: number,
    tables: number,
    stride: number,
    rowState: boolean,
    distance: number,
    level: Level,
    threads: number,
  ): void
  /** Multiply-adds in registers; returns how many operations it did. */
  fma(rounds: number, threads: number): number
}

const path = fileURLToPath(new URL('../build/bench/ceilings.node', import.meta.url))

export function loadCeilings(): Ceilings {
  try {
    return createRequire(import.meta.url)(path) as Ceilings
  } catch (cause) {
    throw new Error(
      `The loops of bench/native are not built: can't load ${path}. Run \`npm run build:native\`.`,
      { cause },
    )
  }
}
