import type { Device } from '../device.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'
import { Linear } from './linear.js'
import { LlamaModule } from './llama-module.js'
import type { Segment } from './transformer-cache.js'
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

  /** `[batch, time, dim]`; with segments batch is 1, and their caches are read and filled. */
  run(x: Tensor, segments?: readonly Segment[]): Tensor {
    const { heads, kvHeads } = this.#config
    const q = this.#heads(this.qProj.apply(x), heads)
    const k = this.#heads(this.kProj.apply(x), kvHeads)
    const v = this.#heads(this.vProj.apply(x), kvHeads)
    const y = segments
      ? this.#attendCached(q, k, v, segments)
      : ops.attention(this.#rotate(q), this.#rotate(k), v).y
    const [batch = 1, time = 1] = x.shape
    return this.oProj.apply(y.reshape([batch, time, heads * this.#config.headDim]))
  }

  #heads(x: Tensor, heads: number): Tensor {
    return x.reshape([...x.shape.slice(0, -1), heads, this.#config.headDim])
  }

  #rotate(x: Tensor, options: { offset?: number; out?: Tensor } = {}): Tensor {
    const { rope } = this.#config
    if (rope) return ops.rope(x, { theta: rope.theta, ...options })
    return options.out && options.out !== x ? options.out.copyFrom(x) : x
  }

  /** Each sequence by itself: its new queries against all of its keys. */
  #attendCached(q: Tensor, k: Tensor, v: Tensor, segments: readonly Segment[]): Tensor {
    const y = this.device.empty(q.shape)
    for (const { begin, end, sequence } of segments) {
      const { keys, values } = sequence.layers[this.#layer]!
      const offset = sequence.length
      const seen = offset + end - begin
      const part = (x: Tensor) => rowsOf(x.reshape(x.shape.slice(1)), begin, end)
      this.#rotate(part(k), { offset, out: rowsOf(keys, offset, seen) })
      rowsOf(values, offset, seen).copyFrom(part(v))
      const rotated = this.#rotate(part(q), { offset })
      const out = { y: part(y) }
      ops.attention(rotated, rowsOf(keys, 0, seen), rowsOf(values, 0, seen), { out })
    }
    return y
  }
}

/** Rows of `[time, heads, width]` as a batch of one. */
function rowsOf(x: Tensor, begin: number, end: number): Tensor {
  const rows = x.rows(begin, end)
  return rows.reshape([1, ...rows.shape])
}
