import type { Device } from '../device.js'
import type { MemoryLayer } from '../memory-layer.js'
import * as ops from '../ops.js'
import type { ShardOptions } from '../sharding/columns.js'
import type { Tensor } from '../tensor.js'
import type { World } from '../world.js'
import { Embedding } from './embedding.js'
import { LlamaModule } from './llama-module.js'
import { RmsNorm } from './rms-norm.js'
import { TokenChoiceExperts } from './token-choice-experts.js'
import { SelfAttention } from './transformer-attention.js'
import type { Pass } from './transformer-cache.js'
import type { TransformerConfig } from './transformer-config.js'
import { type FeedForwardModule, MemoryMaker, makeFeedForward } from './transformer-feed-forward.js'

/** Attention and what follows it, each normed before and added to its input. */
class Block extends LlamaModule {
  readonly inputLayernorm: RmsNorm
  readonly selfAttn: SelfAttention
  readonly postAttentionLayernorm: RmsNorm | undefined
  readonly mlp: FeedForwardModule | undefined
  readonly memory: MemoryLayer | undefined
  readonly #dropout: number
  /** Numbers of its two masks among those of a pass: the first, and how many a pass has. */
  readonly #masks: { first: number; ofPass: number }

  constructor(
    device: Device,
    config: TransformerConfig,
    layer: number,
    memories: MemoryMaker,
    shard: ShardOptions | undefined,
  ) {
    super(device)
    const { dim, normEps: eps, dropout } = config
    const { feedForward, memory } = config.blocks[layer]!
    this.inputLayernorm = new RmsNorm(device, { dim, eps })
    this.selfAttn = new SelfAttention(device, config, layer)
    if (feedForward.kind !== 'none' || memory)
      this.postAttentionLayernorm = new RmsNorm(device, { dim, eps })
    this.mlp = makeFeedForward(device, config, feedForward, shard)
    this.memory = memory && memories.make(device, config, memory)
    this.#dropout = dropout
    this.#masks = { first: 2 * layer, ofPass: 2 * config.blocks.length }
  }

  run(x: Tensor, pass: Pass): Tensor {
    const attended = this.selfAttn.run(this.inputLayernorm.apply(x), pass)
    const h = ops.add(x, this.#drop(attended, pass, 0))
    if (!this.postAttentionLayernorm) return h
    const normed = this.postAttentionLayernorm.apply(h)
    const outputs: Tensor[] = []
    if (this.mlp) outputs.push(this.#runFeedForward(this.mlp, normed, pass))
    if (this.memory) outputs.push(this.memory.apply(normed))
    const y = outputs.reduce((sum, output) => ops.add(sum, output))
    return ops.add(h, this.#drop(y, pass, 1))
  }

  #runFeedForward(mlp: FeedForwardModule, x: Tensor, { losses }: Pass): Tensor {
    if (!(mlp instanceof TokenChoiceExperts)) return mlp.apply(x)
    const { y, loss } = mlp.applyBalanced(x)
    losses.push(loss)
    return y
  }

  /** `index`: 0 or 1, which of the two outputs of the layer x is. */
  #drop(x: Tensor, { dropout }: Pass, index: number): Tensor {
    if (this.#dropout === 0 || !dropout) return x
    const { first, ofPass } = this.#masks
    const step = dropout.pass * ofPass + first + index
    return ops.dropout(x, { p: this.#dropout, seed: dropout.seed, step })
  }
}

/** The decoder up to its head: embedding, layers, norm. */
export class Decoder extends LlamaModule {
  readonly embedTokens: Embedding
  readonly layers: readonly Block[]
  readonly norm: RmsNorm

  constructor(device: Device, config: TransformerConfig, world: World | undefined) {
    super(device)
    const { vocabSize, dim, normEps: eps } = config
    const shard = world && ({ group: world, by: 'columns' } as const)
    const memories = new MemoryMaker(shard)
    this.embedTokens = new Embedding(device, { count: vocabSize, dim, std: embeddingStd })
    this.layers = config.blocks.map((_, layer) => new Block(device, config, layer, memories, shard))
    this.norm = new RmsNorm(device, { dim, eps })
  }

  /** From tokens `[batch * time]` to `[batch * time, dim]`. */
  run(tokens: Tensor, pass: Pass): Tensor {
    const embedded: Tensor = this.embedTokens.apply(tokens)
    return this.norm.apply(this.layers.reduce((x, block) => block.run(x, pass), embedded))
  }
}

// As GPT-2 and Llama begin.
const embeddingStd = 0.02
