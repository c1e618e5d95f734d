// A problem of bench/cuda.ts: how large, what is run, and how near its results must be.

import type { Device, Tensor } from '../lib/index.js'

export interface Sizes {
  tokens: number
  dims: readonly number[] // of tables that bags read
  width: number // of linear maps and layers
  heads: number
  knn: number
  nKeys: number
  half: number
  sequence: number // tokens of attention
}

/** One problem on one device. */
export interface Work {
  /** Enqueues what is timed. */
  run(): void
  /** Enqueues it, and returns all outputs that are compared; before any run(). */
  results(): Record<string, Tensor>
  dispose(): void
}

export type Compute = 'float32' | 'bfloat16'

export interface Case {
  name: string
  compute: Compute
  /** Of the profile, that are timed; undefined: the time of a run by the clock. */
  operations: readonly string[] | undefined
  bytes: number
  flops: number
  /** Has a table: it is compared with fewer slots. */
  table?: boolean
  /** Of each number, relative to the largest of an output. */
  tolerance?: number
  /**
   * Instead of it, where a choice between scores that are equal but for rounding moves single
   * entries: of the root mean square of an output.
   */
  meanTolerance?: number
  make(device: Device, sizes: Sizes): Work
}

export const computes = ['float32', 'bfloat16'] as const
export const exact = 1e-5 // float32, in another order of the sums
/** Of sums of products; tensor cores may cut their sums off. */
export const products = { float32: exact, bfloat16: 1e-4 } as const
export const chosen = 0.05

/** Work whose tensors are those that `results` returns and `inputs`; a run drops its results. */
export function work(inputs: readonly Tensor[], results: () => Record<string, Tensor>): Work {
  const made: Tensor[] = [...inputs]
  return {
    run: () => {
      for (const t of Object.values(results())) t.dispose()
    },
    results: () => {
      const outputs = results()
      made.push(...Object.values(outputs))
      return outputs
    },
    dispose: () => {
      for (const t of made) t.dispose()
    },
  }
}
