// A value table with its queue of reads, and what is exact of a 16-bit one.

import { embeddingBagBackward, fixedOffsets } from '../../../reference/embedding-bag.js'
import { type Noise, type Samples, sampleCount } from './samples.js'
import type { ModelTensor } from './tensor.js'

/** One bag call: indices and weights `[T, L]`, dy `[T, V]`. */
export interface Read {
  T: number
  indices: Samples
  weights: Samples
  dy: Samples
}

export class ModelTable {
  readonly weight: ModelTensor
  queue: Read[] = []
  #exact: Samples
  #seen: Samples

  constructor(
    weight: ModelTensor,
    readonly noise: Noise,
  ) {
    this.weight = weight
    this.#exact = weight.samples
    this.#seen = weight.samples
  }

  get slots(): number {
    return this.weight.shape[0]!
  }

  get dim(): number {
    return this.weight.shape[1]!
  }

  /** The rows that steps have computed; those of the tensor, if it was written meanwhile. */
  get exact(): Samples {
    const now = this.weight.samples
    const same = this.#seen[0]!.every((v, i) => v === now[0]![i])
    return same ? this.#exact : now
  }

  /** After an update. */
  setExact(exact: Samples): void {
    this.weight.update(exact, 0, this.noise)
    this.#exact = exact
    this.#seen = this.weight.samples
  }

  push(read: Read, faults: number): void {
    if (faults === 0) this.queue.push(read)
  }

  /** The gradient of all reads, dense, and the rows that have an entry in sample 0. */
  gradient(): { dense: Samples; rows: Set<number> } {
    const { slots, dim } = this
    const rows = new Set<number>()
    const sums = Array.from({ length: sampleCount }, () => new Float64Array(slots * dim))
    for (const read of this.queue) {
      const L = read.indices[0]!.length / read.T
      for (const index of read.indices[0]!) if (index >= 0) rows.add(index)
      const noisy = [read.weights, read.dy].map((x) => this.noise.perturb(x))
      for (const [s, sum] of sums.entries()) {
        const bags = {
          indices: read.indices[s]!,
          weights: noisy[0]![s]!,
          offsets: fixedOffsets(read.T, L),
        }
        const none = new Float64Array(slots * dim)
        const { dTable } = embeddingBagBackward(noisy[1]![s]!, none, dim, bags)
        for (let i = 0; i < sum.length; i++) sum[i]! += dTable[i]!
      }
    }
    return { dense: this.noise.perturb(sums), rows }
  }
}
