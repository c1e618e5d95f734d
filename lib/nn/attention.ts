import { disposeOnError } from '../atomically.js'
import { type Compute, checkCompute } from '../compute.js'
import { checkDevice, type Device } from '../device.js'
import type { LayerInput } from '../layer-input.js'
import * as ops from '../ops.js'
import { checkBoolean, checkInteger, checkOptions, checkProduct, checkSeed } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import {
  DenseModule,
  type ExplicitModule,
  explicitly,
  Saved,
  uniformParameter,
  valuesByName,
} from './explicit-module.js'
import { checkHeads } from './heads.js'
import { toGradientRows, toRows } from './input.js'

/** Options of {@link Attention}. */
export interface AttentionOptions {
  /** Model width, in and out. */
  dim: number
  /** Of the queries. */
  heads: number
  /** Heads of keys and values, a divisor of heads. Default heads. */
  kvHeads?: number
  /** Width of a head, at most 256. Default dim / heads, which must then be whole. */
  headDim?: number
  /** Each position attends to itself and to earlier ones alone. Default true. */
  causal?: boolean
  /** Of its four projections; attention itself is computed in float32. Default 'float32'. */
  compute?: Compute
  /** Of the initial weights. Default: the next of the device's counter. */
  seed?: number
}

/** @internal */
export type AttentionSaved = { x: Tensor; q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor }

/**
 * Multi-head self-attention (Vaswani et al. 2017), without positions: `y = Wo attention(Wq x, Wk x,
 * Wv x)`. With kvHeads the query heads share them in groups (Ainslie et al. 2023). Weights:
 * `query.weight` `[heads * headDim, dim]`, `key.weight` and `value.weight` `[kvHeads * headDim,
 * dim]`, `output.weight` `[dim, heads * headDim]`. A two-axis input is one sequence.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { Attention } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const attention = new Attention(device, { dim: 64, heads: 4, kvHeads: 2 })
 * const x = device.normal([2, 16, 64], { seed: 1 }) // two sequences of 16 tokens
 * const y = attention.apply(x) // [2, 16, 64]
 * ```
 */
export class Attention extends DenseModule implements ExplicitModule<Saved<AttentionSaved>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #headDim: number
  readonly #causal: boolean
  readonly #query: DenseParameter
  readonly #key: DenseParameter
  readonly #value: DenseParameter
  readonly #output: DenseParameter
  readonly #compute: Compute

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: AttentionOptions) {
    super()
    const where = 'Attention'
    checkDevice(where, device)
    const checked = checkAttention(where, device, options)
    const { dim, heads, kvHeads, headDim, causal, seed } = checked
    this.#compute = checked.compute
    this.#device = device
    this.#dim = dim
    this.#headDim = headDim
    this.#causal = causal
    const [queries, keys] = [heads * headDim, kvHeads * headDim]
    const create = (seed: number) => {
      const projection = (name: string, rows: number, columns: number, offset: number) =>
        uniformParameter(device, `${name}.weight`, [rows, columns], columns, 4 * seed + offset)
      return {
        query: projection('query', queries, dim, 1),
        key: projection('key', keys, dim, 2),
        value: projection('value', keys, dim, 3),
        output: projection('output', dim, queries, 4),
      }
    }
    const made = device.seeds.use(seed, (s) => disposeOnError(() => create(s)))
    const { query, key, value, output } = made
    this.#query = query
    this.#key = key
    this.#value = value
    this.#output = output
    this.dense = [query, key, value, output]
  }

  /**
   * @param x `[time, dim]` or `[batch, time, dim]` float32
   * @returns the output in the shape of x, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<AttentionSaved> } {
    return explicitly(() => {
      const where = 'Attention.forward'
      const { rows, restoreShape, leading } = toRows(where, 'x', x, this.#device, this.#dim)
      const q = this.#project(rows, this.#query, leading)
      const k = this.#project(rows, this.#key, leading)
      const v = this.#project(rows, this.#value, leading)
      const { y, lse } = ops.attention(q, k, v, { causal: this.#causal })
      const yRows = headRows(y)
      const output = restoreShape(this.#run(yRows, this.#output))
      yRows.dispose()
      const reads = { x: rows, ...valuesByName(this.dense) }
      return { output, context: new Saved(this, { x: rows, q, k, v, y, lse }, reads) }
    })
  }

  /** Adds to the gradients and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<AttentionSaved>, dy: LayerInput): Tensor<'float32'> {
    const where = 'Attention.backward'
    return Saved.spend(where, context, this, this.#device, ({ x, ...saved }) => {
      const tokens = x.shape[0]!
      const { rows, restoreShape } = toGradientRows(where, dy, this.#device, this.#dim, tokens)
      const yRows = headRows(saved.y)
      const dyRows = this.#runBackward(rows, yRows, this.#output)
      const dyHeads = dyRows.reshape(saved.y.shape)
      const { dq, dk, dv } = ops.attentionBackward(dyHeads, saved, { causal: this.#causal })
      const dx = this.#projectBackward(dq, x, this.#query)
      const dxOfKey = this.#projectBackward(dk, x, this.#key)
      const dxOfValue = this.#projectBackward(dv, x, this.#value)
      ops.add(dx, dxOfKey, { out: dx })
      ops.add(dx, dxOfValue, { out: dx })
      for (const t of [rows, yRows, dyRows, dyHeads, dxOfKey, dxOfValue]) t.dispose()
      return restoreShape(dx)
    })
  }

  /** `[B * T, dim]` through a projection, as `[B, T, heads, headDim]`. */
  #project(rows: Tensor, projection: DenseParameter, leading: readonly number[]): Tensor {
    const projected = this.#run(rows, projection)
    const batch = leading.length === 2 ? leading : [1, ...leading]
    const heads = projection.value.shape[0]! / this.#headDim
    const perHead = projected.reshape([...batch, heads, this.#headDim])
    projected.dispose()
    return perHead
  }

  /** {@link #runBackward} from a gradient `[B, T, heads, headDim]`, which is disposed. */
  #projectBackward(dPerHead: Tensor, x: Tensor, projection: DenseParameter): Tensor<'float32'> {
    const rows = headRows(dPerHead)
    const dx = this.#runBackward(rows, x, projection)
    for (const t of [dPerHead, rows]) t.dispose()
    return dx
  }

  #run(x: Tensor, projection: DenseParameter): Tensor<'float32'> {
    return ops.linear(x, projection.value, undefined, { compute: this.#compute })
  }

  /** Adds to the gradient of a projection; returns the gradient of its input x. */
  #runBackward(dy: Tensor, x: Tensor, projection: DenseParameter): Tensor<'float32'> {
    const { dx } = ops.linearBackward(dy, x, projection.value, {
      needs: { x: true, weight: true, bias: false },
      into: { weight: projection.grad },
      compute: this.#compute,
    })
    return dx
  }
}

function checkAttention(where: string, device: Device, options: AttentionOptions) {
  const names = ['dim', 'kvHeads', 'heads', 'headDim', 'causal', 'compute', 'seed']
  const checked = checkOptions(where, options, names)
  const compute = checkCompute(where, device, checked.compute)
  const dim = checkInteger(where, 'dim', checked.dim)
  const { heads, kvHeads, headDim } = checkHeads(where, dim, checked, false)
  checkProduct(where, { heads, headDim })
  const causal = checkBoolean(where, 'causal', checked.causal ?? true)
  const seed = checkSeed(where, checked.seed)
  return { dim, heads, kvHeads, headDim, causal, compute, seed }
}

/** `[B, T, heads, headDim]` as `[B * T, heads * headDim]`. */
function headRows(perHead: Tensor): Tensor {
  const [batch, time, heads, headDim] = perHead.shape as [number, number, number, number]
  return perHead.reshape([batch * time, heads * headDim])
}
