// What stands between the attention of a layer and the next.

import type { Device } from '../device.js'
import { MemoryLayer } from '../memory-layer.js'
import * as ops from '../ops.js'
import { PeerLayer } from '../peer-layer.js'
import type { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import type { FeedForwardConfig, MemoryConfig } from './block-config.js'
import { FeedForward } from './feed-forward.js'
import { Linear } from './linear.js'
import { LlamaModule } from './llama-module.js'
import { MixtureOfExperts } from './mixture-of-experts.js'
import { TokenChoiceExperts } from './token-choice-experts.js'

/** `W2 (silu(W1 x) * W3 x)` (Shazeer 2020), without biases. */
export class SwiGlu extends LlamaModule {
  readonly gateProj: Linear
  readonly upProj: Linear
  readonly downProj: Linear

  constructor(device: Device, dim: number, hiddenDim: number) {
    super(device)
    const projection = (inputDim: number, outputDim: number) =>
      new Linear(device, { inputDim, outputDim, bias: false })
    this.gateProj = projection(dim, hiddenDim)
    this.upProj = projection(dim, hiddenDim)
    this.downProj = projection(hiddenDim, dim)
  }

  apply(x: Tensor): Tensor {
    return this.downProj.apply(ops.siluGate(this.upProj.apply(x), this.gateProj.apply(x)))
  }
}

export type FeedForwardModule =
  | SwiGlu
  | FeedForward
  | MixtureOfExperts
  | TokenChoiceExperts
  | PeerLayer

/** Of a layer; undefined: none. */
export function makeFeedForward(
  device: Device,
  dim: number,
  config: FeedForwardConfig,
): FeedForwardModule | undefined {
  switch (config.kind) {
    case 'none':
      return undefined
    case 'swiglu':
      return new SwiGlu(device, dim, config.hiddenDim)
    case 'gelu':
      return new FeedForward(device, { dim, hiddenDim: config.hiddenDim })
    case 'peer': {
      const { kind, ...options } = config
      return new PeerLayer(device, { inputDim: dim, ...options })
    }
    case 'moe': {
      const { experts, hiddenDim, routing, expertsPerToken, balance } = config
      const options = { dim, hiddenDim, experts }
      return routing === 'expert'
        ? new MixtureOfExperts(device, { ...options, capacity: expertsPerToken })
        : new TokenChoiceExperts(device, { ...options, expertsPerToken, balance })
    }
  }
}

/** Memory layers, of which those that share read one table: that of the first. */
export class MemoryMaker {
  #shared: ValueTable | undefined

  make(device: Device, dim: number, { shared, ...config }: MemoryConfig): MemoryLayer {
    if (!shared) return new MemoryLayer(device, { inputDim: dim, ...config })
    const { dtype, ...reading } = config
    const layer = this.#shared
      ? new MemoryLayer(device, { inputDim: dim, ...reading, values: this.#shared })
      : new MemoryLayer(device, { inputDim: dim, ...config })
    this.#shared = layer.values
    return layer
  }
}
