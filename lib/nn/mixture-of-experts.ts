import type { LayerInput } from '../context.js'
import { type Device, expectDevice } from '../device.js'
import * as ops from '../ops.js'
import { integer, number, options } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { takeRows } from './input.js'
import { DenseModule, type Module, Saved, uniformParameter } from './module.js'

/** Options of {@link MixtureOfExperts}. */
export interface MixtureOfExpertsOptions {
  /** Model width, in and out. */
  dim: number
  /** Width of an expert's hidden layer. */
  hiddenDim: number
  /** Number of experts, E. */
  experts: number
  /**
   * Experts a token has on the average: each expert takes `capacity * T / E` tokens, rounded up.
   * Default 2.
   */
  capacity?: number
  /** Of the initial weights. Default 0. */
  seed?: number
}

/** @internal */
export type ExpertsSaved = Record<
  'x' | 'shares' | 'places' | 'gates' | 'inputs' | 'a' | 'h' | 'outputs',
  Tensor
>

// w1.weight, w1.bias, w2.weight, w2.bias
type Expert = [DenseParameter, DenseParameter, DenseParameter, DenseParameter]

/**
 * A mixture of experts with expert choice (Zhou et al. 2022), the routing that memory layers are
 * compared with: of the softmax over experts, each expert takes the tokens with its greatest
 * shares, so that all are equally busy; `y[t] = sum over the experts that took t of share *
 * expert(x[t])`. Nothing waits for the device, since every expert's number of tokens is known
 * beforehand.
 */
export class MixtureOfExperts extends DenseModule implements Module<Saved<ExpertsSaved>> {
  protected readonly list: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #hidden: number
  readonly #experts: number
  readonly #capacity: number

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, given: MixtureOfExpertsOptions) {
    super()
    const where = 'MixtureOfExperts'
    expectDevice(where, device)
    const o = options(where, given, ['dim', 'hiddenDim', 'experts', 'capacity', 'seed'])
    this.#device = device
    this.#dim = integer(where, 'dim', o.dim)
    this.#hidden = integer(where, 'hiddenDim', o.hiddenDim)
    this.#experts = integer(where, 'experts', o.experts)
    this.#capacity = number(where, 'capacity', o.capacity ?? 2, 0)
    const seed = (1 + 4 * this.#experts) * integer(where, 'seed', o.seed ?? 0, 0)
    const [C, hidden] = [this.#dim, this.#hidden]
    const experts = Array.from({ length: this.#experts }, (_, e) => [
      uniformParameter(device, `experts.${e}.w1.weight`, [hidden, C], C, seed + 4 * e + 2),
      uniformParameter(device, `experts.${e}.w1.bias`, [hidden], C, seed + 4 * e + 3),
      uniformParameter(device, `experts.${e}.w2.weight`, [C, hidden], hidden, seed + 4 * e + 4),
      uniformParameter(device, `experts.${e}.w2.bias`, [C], hidden, seed + 4 * e + 5),
    ])
    this.list = [
      uniformParameter(device, 'router.weight', [this.#experts, C], C, seed + 1),
      ...experts.flat(),
    ]
  }

  #expert(e: number): Expert {
    return this.list.slice(1 + 4 * e, 5 + 4 * e) as unknown as Expert
  }

  /** Tokens of one expert, of T. */
  #taken(T: number): number {
    return Math.max(1, Math.min(T, Math.ceil((this.#capacity * T) / this.#experts)))
  }

  // For place i of expert e: a one in column e. Scattering it by token makes a matrix [T, E] of
  // numbers that lie by place.
  #columns(places: number, each: number): Tensor {
    const columns = new Float32Array(places * this.#experts)
    for (let i = 0; i < places; i++) columns[i * this.#experts + Math.floor(i / each)] = 1
    return this.#device.tensor(columns, [places, this.#experts])
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]`, at least one token @throws ERR_SHAPE,
   * ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor; context: Saved<ExpertsSaved> } {
    const { rows, shaped } = takeRows('MixtureOfExperts.forward', 'x', x, this.#device, this.#dim)
    const [T, E] = [rows.shape[0]!, this.#experts]
    const each = this.#taken(T)
    const logits = ops.linear(rows, this.list[0]!.value)
    const shares = ops.softmax(logits)
    // shares^T [E, T], as the product of the identity with them
    const identity = this.#device.tensor(
      Float32Array.from({ length: E * E }, (_, i) => (i % (E + 1) === 0 ? 1 : 0)),
      [E, E],
    )
    const byExpert = ops.linear(identity, shares)
    const top = ops.topK(byExpert, each)
    const places = top.indices.reshape([E * each, 1])
    const gates = top.values.reshape([E * each, 1])
    const ones = this.#device.tensor(new Float32Array(E * each).fill(1), [E * each, 1])
    const inputs = ops.embeddingBag(rows, places, ones)
    const a = this.#device.empty([E * each, this.#hidden])
    const outputs = this.#device.empty([E * each, this.#dim])
    this.#eachExpert(each, [inputs, a], ([input, out], [w1, b1]) =>
      ops.linear(input!, w1.value, b1.value, { out: out! }),
    )
    const h = ops.gelu(a)
    this.#eachExpert(each, [h, outputs], ([input, out], [, , w2, b2]) =>
      ops.linear(input!, w2.value, b2.value, { out: out! }),
    )
    const output = scatter(outputs, rows, places, gates)
    for (const t of [logits, identity, byExpert, top.values, top.indices, ones]) t.dispose()
    return {
      output: shaped(output),
      context: new Saved(this, { x: rows, shares, places, gates, inputs, a, h, outputs }),
    }
  }

  /**
   * Adds to the gradients and returns dx; which tokens an expert takes is a constant. @throws
   * ERR_CONTEXT, ERR_SHAPE
   */
  backward(context: Saved<ExpertsSaved>, dy: LayerInput): Tensor {
    const where = 'MixtureOfExperts.backward'
    const { rows, shaped } = takeRows(where, 'dy', dy, this.#device, this.#dim)
    const { x, shares, places, gates, inputs, a, h, outputs } = context.peek(where, this)
    const each = this.#taken(x.shape[0]!)
    const dOutputs = ops.embeddingBag(rows, places, gates)
    const { dWeights: dGates } = ops.embeddingBagBackward(outputs, rows, places, gates, {
      needs: { table: false, weights: true },
    })
    const dHidden = this.#device.empty(h.shape)
    this.#eachExpert(each, [dOutputs, h, dHidden], ([d, input, dx], [, , w2, b2]) =>
      ops.linearBackward(d!, input!, w2.value, {
        into: { weight: w2.grad, bias: b2.grad },
        out: { dx: dx! },
      }),
    )
    ops.geluBackward(dHidden, a, { out: dHidden })
    const dInputs = this.#device.empty(inputs.shape)
    this.#eachExpert(each, [dHidden, inputs, dInputs], ([d, input, dx], [w1, b1]) =>
      ops.linearBackward(d!, input!, w1.value, {
        into: { weight: w1.grad, bias: b1.grad },
        out: { dx: dx! },
      }),
    )
    const ones = this.#device.tensor(new Float32Array(places.size).fill(1), places.shape)
    const dx = scatter(dInputs, x, places, ones)
    const columns = this.#columns(places.size, each)
    const dShares = scatter(columns, shares, places, dGates!)
    const dLogits = ops.softmaxBackward(dShares, shares)
    const router = this.list[0]!
    const needs = { x: true, weight: true, bias: false }
    const { dx: through } = ops.linearBackward(dLogits, x, router.value, {
      needs,
      into: { weight: router.grad },
    })
    ops.add(dx, through!, { out: dx })
    for (const t of [
      rows,
      dOutputs,
      dGates!,
      dHidden,
      dInputs,
      ones,
      columns,
      dShares,
      dLogits,
      through!,
    ])
      t.dispose()
    context.dispose()
    return shaped(dx)
  }

  /** Calls `body` for each expert with its rows of the tensors, in the same memory. */
  #eachExpert(
    each: number,
    tensors: Tensor[],
    body: (rows: Tensor[], expert: Expert) => unknown,
  ): void {
    for (let e = 0; e < this.#experts; e++) {
      const rows = tensors.map((t) => t.rows(e * each, (e + 1) * each))
      body(rows, this.#expert(e))
      for (const t of rows) t.dispose()
    }
  }
}

/**
 * Rows added up by the place they belong to: out[places[i], :] += weights[i] * rows[i, :], in the
 * shape of `like`.
 */
function scatter(rows: Tensor, like: Tensor, places: Tensor, weights: Tensor): Tensor {
  const { dTable } = ops.embeddingBagBackward(rows, like, places, weights, {
    needs: { table: true, weights: false },
  })
  const dense = dTable!.toDense()
  dTable!.dispose()
  return dense
}
