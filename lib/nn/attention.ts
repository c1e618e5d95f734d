import type { LayerInput } from '../context.js'
import { type Device, expectDevice } from '../device.js'
import { fail } from '../errors.js'
import * as ops from '../ops.js'
import { boolean, integer, options } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { takeRows } from './input.js'
import { DenseModule, type Module, Saved, uniformParameter } from './module.js'

/** Options of {@link Attention}. */
export interface AttentionOptions {
  /** Model width, in and out. */
  dim: number
  /** Divides dim; a head is at most 256 wide. */
  heads: number
  /** Each time sees itself and those before it alone. Default true. */
  causal?: boolean
  /** Of the initial weights. Default 0. */
  seed?: number
}

/** @internal */
export type AttentionSaved = { x: Tensor; q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor }

const names = ['query', 'key', 'value', 'output'] as const

/**
 * Multi-head self-attention (Vaswani et al. 2017), without positions: `y = Wo attention(Wq x, Wk x,
 * Wv x)`, weights `<name>.weight` `[dim, dim]`. A two-axis input is one sequence.
 */
export class Attention extends DenseModule implements Module<Saved<AttentionSaved>> {
  protected readonly list: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #heads: number
  readonly #causal: boolean

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, given: AttentionOptions) {
    super()
    const where = 'Attention'
    expectDevice(where, device)
    const o = options(where, given, ['dim', 'heads', 'causal', 'seed'])
    this.#device = device
    this.#dim = integer(where, 'dim', o.dim)
    this.#heads = integer(where, 'heads', o.heads)
    if (this.#dim % this.#heads !== 0)
      fail('ERR_VALUE', where, 'heads', `divide dim ${this.#dim}`, this.#heads)
    this.#causal = boolean(where, 'causal', o.causal ?? true)
    const seed = 4 * integer(where, 'seed', o.seed ?? 0, 0)
    this.list = names.map((name, i) =>
      uniformParameter(device, `${name}.weight`, [this.#dim, this.#dim], this.#dim, seed + i + 1),
    )
  }

  /** @param x `[time, dim]` or `[batch, time, dim]` @throws ERR_SHAPE, ERR_DTYPE */
  forward(x: LayerInput): { output: Tensor; context: Saved<AttentionSaved> } {
    const { rows, shaped, leading } = takeRows('Attention.forward', 'x', x, this.#device, this.#dim)
    const [q, k, v] = this.list
      .slice(0, 3)
      .map((p) => this.#heads4(ops.linear(rows, p.value), leading)) as [Tensor, Tensor, Tensor]
    const { y, lse } = ops.attention(q, k, v, { causal: this.#causal })
    const flat = y.reshape(rows.shape)
    const output = shaped(ops.linear(flat, this.list[3]!.value))
    flat.dispose()
    return { output, context: new Saved(this, { x: rows, q, k, v, y, lse }) }
  }

  /** Adds to the gradients and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<AttentionSaved>, dy: LayerInput): Tensor {
    const where = 'Attention.backward'
    const { rows, shaped } = takeRows(where, 'dy', dy, this.#device, this.#dim)
    const { x, ...saved } = context.peek(where, this)
    const back = (p: DenseParameter, from: Tensor, d: Tensor) =>
      ops.linearBackward(d, from, p.value, {
        needs: { x: true, weight: true, bias: false },
        into: { weight: p.grad },
      }).dx!
    const flat = saved.y.reshape(x.shape)
    const dFlat = back(this.list[3]!, flat, rows)
    const d4 = dFlat.reshape(saved.y.shape)
    const { dq, dk, dv } = ops.attentionBackward(d4, saved, { causal: this.#causal })
    const parts = [dq, dk, dv].map((d, i) => {
      const rows2 = d.reshape(x.shape)
      const part = back(this.list[i]!, x, rows2)
      for (const t of [d, rows2]) t.dispose()
      return part
    })
    const dx = parts[0]!
    for (const part of parts.slice(1)) {
      ops.add(dx, part, { out: dx })
      part.dispose()
    }
    for (const t of [rows, flat, dFlat, d4]) t.dispose()
    context.dispose()
    return shaped(dx)
  }

  // [B * T, dim] as [B, T, heads, width]
  #heads4(rows: Tensor, leading: readonly number[]): Tensor {
    const [batch, time] = leading.length === 2 ? leading : [1, leading[0]!]
    const four = rows.reshape([batch!, time!, this.#heads, this.#dim / this.#heads])
    rows.dispose()
    return four
  }
}
