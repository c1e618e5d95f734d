import { disposeOnError } from '../atomically.js'
import { checkDevice, type Device } from '../device.js'
import { fail } from '../errors.js'
import type { LayerInput } from '../layer-input.js'
import * as ops from '../ops.js'
import { checkBoolean, checkInteger, checkOptions } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { toGradientRows, toRows } from './input.js'
import {
  DenseModule,
  explicitly,
  type Module,
  Saved,
  uniformParameter,
  valuesByName,
} from './module.js'

/** Options of {@link Attention}. */
export interface AttentionOptions {
  /** Model width, in and out. */
  dim: number
  /** Divides dim; a head is at most 256 wide. */
  heads: number
  /** Each position attends to itself and to earlier ones alone. Default true. */
  causal?: boolean
  /** Of the initial weights. Default 0. */
  seed?: number
}

/** @internal */
export type AttentionSaved = { x: Tensor; q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor }

/**
 * Multi-head self-attention (Vaswani et al. 2017), without positions: `y = Wo attention(Wq x, Wk x,
 * Wv x)`, weights `<name>.weight` `[dim, dim]`. A two-axis input is one sequence.
 */
export class Attention extends DenseModule implements Module<Saved<AttentionSaved>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #heads: number
  readonly #causal: boolean
  readonly #query: DenseParameter
  readonly #key: DenseParameter
  readonly #value: DenseParameter
  readonly #output: DenseParameter

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: AttentionOptions) {
    super()
    const where = 'Attention'
    checkDevice(where, device)
    const checked = checkOptions(where, options, ['dim', 'heads', 'causal', 'seed'])
    const dim = checkInteger(where, 'dim', checked.dim)
    const heads = checkInteger(where, 'heads', checked.heads)
    if (dim % heads !== 0) fail('ERR_VALUE', where, 'heads', `divide dim ${dim}`, heads)
    this.#device = device
    this.#dim = dim
    this.#heads = heads
    this.#causal = checkBoolean(where, 'causal', checked.causal ?? true)
    const seed = 4 * checkInteger(where, 'seed', checked.seed ?? 0, 0)
    const projection = (name: string, offset: number) =>
      uniformParameter(device, `${name}.weight`, [dim, dim], dim, seed + offset)
    const { query, key, value, output } = disposeOnError(() => ({
      query: projection('query', 1),
      key: projection('key', 2),
      value: projection('value', 3),
      output: projection('output', 4),
    }))
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
      const yRows = y.reshape(rows.shape)
      const output = restoreShape(ops.linear(yRows, this.#output.value))
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
      const yRows = saved.y.reshape(x.shape)
      const dyRows = linearBackward(rows, yRows, this.#output)
      const dyHeads = dyRows.reshape(saved.y.shape)
      const { dq, dk, dv } = ops.attentionBackward(dyHeads, saved, { causal: this.#causal })
      const dx = projectBackward(dq, x, this.#query)
      const dxOfKey = projectBackward(dk, x, this.#key)
      const dxOfValue = projectBackward(dv, x, this.#value)
      ops.add(dx, dxOfKey, { out: dx })
      ops.add(dx, dxOfValue, { out: dx })
      for (const t of [rows, yRows, dyRows, dyHeads, dxOfKey, dxOfValue]) t.dispose()
      return restoreShape(dx)
    })
  }

  /** `[B * T, dim]` through a projection, as `[B, T, heads, dim / heads]`. */
  #project(rows: Tensor, projection: DenseParameter, leading: readonly number[]): Tensor {
    const projected = ops.linear(rows, projection.value)
    const batch = leading.length === 2 ? leading : [1, ...leading]
    const perHead = projected.reshape([...batch, this.#heads, this.#dim / this.#heads])
    projected.dispose()
    return perHead
  }
}

/** Adds to the gradient of a projection without bias; returns the gradient of its input x. */
function linearBackward(dy: Tensor, x: Tensor, projection: DenseParameter): Tensor<'float32'> {
  const { dx } = ops.linearBackward(dy, x, projection.value, {
    needs: { x: true, weight: true, bias: false },
    into: { weight: projection.grad },
  })
  return dx
}

/** {@link linearBackward} from a gradient `[B, T, heads, dim / heads]`, which is disposed. */
function projectBackward(
  dPerHead: Tensor,
  x: Tensor,
  projection: DenseParameter,
): Tensor<'float32'> {
  const rows = dPerHead.reshape(x.shape)
  const dx = linearBackward(rows, x, projection)
  for (const t of [dPerHead, rows]) t.dispose()
  return dx
}
