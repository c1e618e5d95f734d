// What stands between the attention of a layer and the next.

import type { Compute } from '../compute.js'
import type { Device } from '../device.js'
import { MemoryLayer } from '../memory-layer.js'
import * as ops from '../ops.js'
import { PeerLayer } from '../peer-layer.js'
import type { ShardOptions } from '../sharding/columns.js'
import type { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import type { FeedForwardConfig, MemoryConfig } from './block-config.js'
import { FeedForward } from './feed-forward.js'
import { Linear } from './linear.js'
import { LlamaModule } from './llama-module.js'
import { MixtureOfExperts } from './mixture-of-experts.js'
import { TokenChoiceExperts } from './token-choice-experts.js'
import type { TransformerConfig } from './transformer-config.js'

/** `W2 (silu(W1 x) * W3 x)` (Shazeer 2020), without biases. */
export class SwiGlu extends LlamaModule {
  readonly gateProj: Linear
  readonly upProj: Linear
  readonly downProj: Linear

  constructor(device: Device, dim: number, hiddenDim: number, compute: Compute) {
    super(device)
    const projection = (inputDim: number, outputDim: number) =>
      new Linear(device, { inputDim, outputDim, bias: false, compute })
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
  { dim, compute }: TransformerConfig,
  config: FeedForwardConfig,
  shard: ShardOptions | undefined,
): FeedForwardModule | undefined {
  switch (config.kind) {
    case 'none':
      return undefined
    case 'swiglu':
      return new SwiGlu(device, dim, config.hiddenDim, compute)
    case 'gelu':
      return new FeedForward(device, { dim, hiddenDim: config.hiddenDim, compute })
    case 'peer': {
      const { kind, ...options } = config
      return new PeerLayer(device, { inputDim: dim, ...options, compute, ...(shard && { shard }) })
    }
    case 'moe': {
      const { experts, hiddenDim, routing, expertsPerToken, balance } = config
      const options = { dim, hiddenDim, experts, compute }
      return routing === 'expert'
        ? new MixtureOfExperts(device, { ...options, capacity: expertsPerToken })
        : new TokenChoiceExperts(device, { ...options, expertsPerToken, balance })
    }
  }
}

/** Memory layers, of which those that share read one table: that of the first. */
export class MemoryMaker {
  readonly #shard: ShardOptions | undefined
  #shared: ValueTable | undefined

  constructor(shard: ShardOptions | undefined) {
    this.#shard = shard
  }

  make(
    device: Device,
    { dim, compute }: TransformerConfig,
    { shared, ...config }: MemoryConfig,
  ): MemoryLayer {
    const options = { inputDim: dim, ...config, compute }
    const own = { ...options, ...(this.#shard && { shard: this.#shard }) }
    if (!shared) return new MemoryLayer(device, own)
    const { dtype, ...reading } = options
    const layer = this.#shared
      ? new MemoryLayer(device, { ...reading, values: this.#shared })
      : new MemoryLayer(device, own)
    this.#shared = layer.values
    return layer
  }
}
