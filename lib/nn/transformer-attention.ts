import type { Device } from '../device.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'
import { Linear } from './linear.js'
import { LlamaModule } from './llama-module.js'
import type { Pass, Segment } from './transformer-cache.js'
import type { TransformerConfig } from './transformer-config.js'

/**
 * Causal self-attention with rotary positions (Su et al. 2021) and, with fewer heads of keys than
 * of queries, grouped queries (Ainslie et al. 2023); projections without biases. `compute` is that
 * of the projections.
 */
export class SelfAttention extends LlamaModule {
  readonly qProj: Linear
  readonly kProj: Linear
  readonly vProj: Linear
  readonly oProj: Linear
  readonly #config: TransformerConfig
  readonly #layer: number

  constructor(device: Device, config: TransformerConfig, layer: number) {
    super(device)
    const { dim, heads, kvHeads, headDim, compute } = config
    const projection = (inputDim: number, outputDim: number) =>
      new Linear(device, { inputDim, outputDim, bias: false, compute })
    this.#config = config
    this.#layer = layer
    this.qProj = projection(dim, heads * headDim)
    this.kProj = projection(dim, kvHeads * headDim)
    this.vProj = projection(dim, kvHeads * headDim)
    this.oProj = projection(heads * headDim, dim)
  }

  /** From `[batch * time, dim]`; with segments batch is 1, and their caches are read and filled. */
  run(x: Tensor, { batch, segments }: Pass): Tensor {
    const q = this.qProj.apply(x)
    const k = this.kProj.apply(x)
    const v = this.vProj.apply(x)
    const y = segments ? this.#attendCached(q, k, v, segments) : this.#attend(q, k, v, batch)
    return this.oProj.apply(y)
  }

  #attend(q: Tensor, k: Tensor, v: Tensor, batch: number): Tensor {
    const { headDim } = this.#config
    const heads = (x: Tensor) => {
      const [tokens = 0, width = 0] = x.shape
      return x.reshape([batch, batch && tokens / batch, width / headDim, headDim])
    }
    const { y } = ops.attention(this.#rotate(heads(q)), this.#rotate(heads(k)), heads(v))
    return y.reshape(q.shape)
  }

  #rotate(x: Tensor, options: { offset?: number; out?: Tensor } = {}): Tensor {
    const { rope } = this.#config
    if (rope) return ops.rope(x, { theta: rope.theta, ...options })
    return options.out && options.out !== x ? options.out.copyFrom(x) : x
  }

  /** Each sequence by itself: its new queries against all of its keys. */
  #attendCached(q: Tensor, k: Tensor, v: Tensor, segments: readonly Segment[]): Tensor {
    const { heads, kvHeads, headDim } = this.#config
    const y = this.device.empty(q.shape)
    for (const { begin, end, sequence } of segments) {
      const { keys, values } = sequence.layers[this.#layer]!
      const offset = sequence.length
      const count = end - begin
      const seen = [1, offset + count, kvHeads, headDim]
      const fresh = [1, count, kvHeads, headDim]
      this.#rotate(k.view(begin, fresh), { offset, out: keys.view(offset, fresh) })
      values.view(offset, fresh).copyFrom(v.view(begin, fresh))
      const queries = [1, count, heads, headDim]
      const part = q.view(begin, queries)
      this.#rotate(part, { offset, out: part })
      const out = { y: y.view(begin, queries) }
      ops.attention(part, keys.view(0, seen), values.view(0, seen), { out })
    }
    return y
  }
}
