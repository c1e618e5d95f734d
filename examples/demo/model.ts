// One residual block and a classifier: logits = W (x + block(x)) + b. The block is a dense
// feed-forward, or a memory layer with as many multiply-adds.

import {
  type Compute,
  type Device,
  MemoryLayer,
  ops,
  type Parameter,
  type StateDict,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { type ExplicitModule, FeedForward, Linear } from '../../lib/nn/index.js'
import { width } from './encoder.js'

export type Kind = 'memory' | 'dense'

const heads = 4
const knn = 16
const nKeys = 256
const keyDim = 64

/**
 * Multiply-adds of the memory block for one fact: query, half-key scores, bag, and the gate's two
 * projections.
 */
export const multiplyAdds =
  width * heads * keyDim + heads * nKeys * keyDim + heads * knn * width + 2 * width * width

/** Width of a dense block with as many. */
const hidden = multiplyAdds / (2 * width)

interface Saved {
  block: unknown
  head: unknown
}

export class Model {
  readonly kind: Kind
  readonly #block: ExplicitModule
  readonly #head: Linear
  readonly #table: ValueTable | undefined

  constructor(
    device: Device,
    kind: Kind,
    classes: number,
    seed: number,
    compute: Compute = 'float32',
  ) {
    this.kind = kind
    if (kind === 'memory') {
      this.#table = new ValueTable(device, {
        slots: nKeys * nKeys,
        dim: width,
        init: { std: 0.1, seed },
      })
      const options = {
        inputDim: width,
        heads,
        knn,
        nKeys,
        keyDim,
        queryNorm: 'rms',
        values: this.#table,
        seed,
        compute,
      } as const
      this.#block = new MemoryLayer(device, options) as ExplicitModule
    } else {
      this.#block = new FeedForward(device, {
        dim: width,
        hiddenDim: hidden,
        activation: 'gelu',
        seed,
        compute,
      }) as ExplicitModule
    }
    this.#head = new Linear(device, {
      inputDim: width,
      outputDim: classes,
      seed: seed + 1,
      compute,
    })
  }

  forward(x: Tensor): { logits: Tensor; saved: Saved } {
    const block = this.#block.forward(x)
    using h = ops.add(x, block.output, { out: block.output })
    const head = this.#head.forward(h)
    return { logits: head.output, saved: { block: block.context, head: head.context } }
  }

  backward(saved: Saved, dLogits: Tensor): void {
    using dh = this.#head.backward(saved.head as never, dLogits)
    this.#block.backward(saved.block, dh).dispose()
  }

  infer(x: Tensor): Tensor {
    using y = this.#block.infer(x)
    using h = ops.add(x, y, { out: y })
    return this.#head.infer(h)
  }

  parameters(): Parameter[] {
    return [...this.#block.parameters(), ...this.#head.parameters()]
  }

  /** Number of trained values. */
  get size(): number {
    return this.parameters().reduce((sum, p) => sum + p.value.size, 0)
  }

  stateDict(): StateDict {
    const named = (prefix: string, state: StateDict) =>
      Object.entries(state).map(([name, t]) => [`${this.kind}.${prefix}.${name}`, t] as const)
    return Object.fromEntries([
      ...named('block', this.#block.stateDict()),
      ...named('head', this.#head.stateDict()),
    ])
  }

  loadStateDict(state: StateDict): void {
    const withoutPrefix = (prefix: string) => {
      const start = `${this.kind}.${prefix}.`
      return Object.fromEntries(
        Object.entries(state)
          .filter(([n]) => n.startsWith(start))
          .map(([n, t]) => [n.slice(start.length), t]),
      )
    }
    this.#block.loadStateDict(withoutPrefix('block'))
    this.#head.loadStateDict(withoutPrefix('head'))
  }

  dispose(): void {
    this.#block.dispose()
    this.#head.dispose()
    this.#table?.dispose()
  }
}
