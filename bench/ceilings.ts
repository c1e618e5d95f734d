// The loops of bench/native: what this machine can do at best. Built by `npm run build:native` in a
// checkout.

import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { TensorHandle } from '../binding.js'

declare const handle: unique symbol
export interface Memory {
  readonly [handle]: 'memory'
}
export interface RowList {
  readonly [handle]: 'rows'
}

export interface Ceilings {
  /** Memory in huge pages, all touched. Given back when collected. */
  allocate(bytes: number): Memory
  /** A list of rows, each in [0, slots). */
  rowList(rows: Int32Array, slots: number): RowList
  /**
   * Reads the listed rows, and of each its float32 in `scales`; prefetches into the first or second
   * `cache`, `ahead` rows before, and once more into the first, `again` rows before. Returns the
   * sum of all 32-bit words of the last piece of work.
   */
  gather(
    memory: Memory | TensorHandle,
    scales: Memory | TensorHandle | undefined,
    rows: RowList,
    rowBytes: number,
    ahead: number,
    again: number,
    cache: 1 | 2,
    threads: number,
  ): number
  /**
   * Adds one to every float of the listed rows in each of `parts` tables, `apart` bytes from one to
   * the next, and to one number of each row behind them.
   */
  update(
    memory: Memory,
    rows: RowList,
    rowBytes: number,
    parts: number,
    apart: number,
    numbers: boolean,
    ahead: number,
    cache: 1 | 2,
    threads: number,
  ): void
  /** Multiply-adds in registers; returns how many operations it did. */
  fma(rounds: number, threads: number): number
  /** The instruction set the loops use. */
  isa(): string
}

const path = fileURLToPath(new URL('../build/bench/ceilings.node', import.meta.url))

export function loadCeilings(): Ceilings {
  try {
    return createRequire(import.meta.url)(path) as Ceilings
  } catch (cause) {
    throw new Error(
      `The benchmark's own loops are not built: ${path} can't be loaded. Run \`npm run build:native\`.`,
      { cause },
    )
  }
}
