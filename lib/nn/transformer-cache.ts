// Keys and values of the tokens that a model has seen, so that a token is computed with once.

import { disposeOnError } from '../atomically.js'
import type { Device } from '../device.js'
import type { MaskNumbers } from '../ops/dropout.js'
import type { Tensor } from '../tensor.js'

/** Of one layer and sequence: `[capacity, kvHeads, headDim]` each, the first rows filled. */
export interface LayerCache {
  keys: Tensor
  values: Tensor
}

/** One sequence that grows. */
export class Sequence {
  /** Tokens whose keys and values are in. */
  length = 0
  readonly layers: readonly LayerCache[]

  constructor(device: Device, layers: number, shape: readonly [number, number, number]) {
    this.layers = disposeOnError(() =>
      Array.from({ length: layers }, () => ({
        keys: device.empty(shape),
        values: device.empty(shape),
      })),
    )
  }

  dispose(): void {
    for (const { keys, values } of this.layers) for (const t of [keys, values]) t.dispose()
  }
}

/** New tokens of a sequence: rows `begin` … `end - 1` of all sequences' new tokens. */
export interface Segment {
  begin: number
  end: number
  sequence: Sequence
}

/** What one pass through the layers is for, beside its tokens. */
export interface Pass {
  /** Sequences of the same length, whose tokens the rows are; one with segments. */
  readonly batch: number
  /** In training what dropout's masks follow from, by their numbers in the pass. */
  readonly dropout: ((mask: number) => MaskNumbers) | undefined
  /** The weighted load-balancing losses of experts, which they add here. */
  readonly losses: Tensor[]
  /** With a cache: the tokens are those of all these. */
  readonly segments?: readonly Segment[]
}
