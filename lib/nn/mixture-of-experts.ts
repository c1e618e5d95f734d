import { disposeOnError } from '../atomically.js'
import { type Compute, checkCompute } from '../compute.js'
import { checkDevice, type Device } from '../device.js'
import type { LayerInput } from '../layer-input.js'
import { constantTensor } from '../new-tensor.js'
import * as ops from '../ops.js'
import { checkInteger, checkNumber, checkOptions, checkProduct } from '../options.js'
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
import { toGradientRows, toRows } from './input.js'

/** Options of {@link MixtureOfExperts}. */
export interface MixtureOfExpertsOptions {
  /** Model width, in and out. */
  dim: number
  /** Width of an expert's hidden layer. */
  hiddenDim: number
  /** Number of experts, E, at most 4096. */
  experts: number
  /**
   * Mean number of experts per token: each expert selects `k = capacity * T / E` tokens, rounded
   * up. Default 2.
   */
  capacity?: number
  /** Of the experts' products; the router's are float32. Default 'float32'. */
  compute?: Compute
  /** Of the initial weights. Default: the next of the device's counter. */
  seed?: number
}

/**
 * @internal With k tokens per expert and entry e * k + i the i-th token of expert e:
 * probabilities `[T, E]`, indices (the entries' tokens) and gates `[E * k, 1]`; inputs and outputs
 * `[E * k, dim]`, a and h (before and after gelu) `[E * k, hiddenDim]`.
 */
export type ExpertsSaved = Record<
  'x' | 'probabilities' | 'indices' | 'gates' | 'inputs' | 'a' | 'h' | 'outputs',
  Tensor
>

// The gradient of the routing goes through a matrix with a column for each expert.
const maxExperts = 4096

type Expert = Record<'w1' | 'b1' | 'w2' | 'b2', DenseParameter>

/**
 * A mixture of experts with expert choice (Zhou et al. 2022), the routing that memory layers are
 * compared with: of the softmax over experts, each expert selects its k most probable tokens, so
 * that all experts do equal work; `y[t] = sum over the experts e that selected t of
 * probabilities[t, e] * expert_e(x[t])`. Nothing waits for the device, since k is known beforehand.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { MixtureOfExperts } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const experts = new MixtureOfExperts(device, { dim: 64, hiddenDim: 64, experts: 8, capacity: 2 })
 * const y = experts.apply(device.normal([32, 64], { seed: 1 })) // each expert takes 8 of 32 tokens
 * ```
 */
export class MixtureOfExperts extends DenseModule implements ExplicitModule<Saved<ExpertsSaved>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #hidden: number
  readonly #capacity: number
  readonly #router: DenseParameter
  readonly #experts: readonly Expert[]
  readonly #compute: Compute

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: MixtureOfExpertsOptions) {
    super()
    const where = 'MixtureOfExperts'
    checkDevice(where, device)
    const names = ['dim', 'hiddenDim', 'experts', 'capacity', 'compute', 'seed']
    const checked = checkOptions(where, options, names)
    this.#compute = checkCompute(where, device, checked.compute)
    const dim = checkInteger(where, 'dim', checked.dim)
    const hidden = checkInteger(where, 'hiddenDim', checked.hiddenDim)
    const experts = checkInteger(where, 'experts', checked.experts, 1, maxExperts)
    checkProduct(where, { dim, hiddenDim: hidden })
    this.#device = device
    this.#dim = dim
    this.#hidden = hidden
    this.#capacity = checkNumber(where, 'capacity', checked.capacity ?? 2, 0)
    const seed =
      (1 + 4 * experts) * checkInteger(where, 'seed', checked.seed ?? device.seeds.next(), 0)
    const newExpert = (e: number) => {
      const parameter = (name: string, shape: number[], fanIn: number, offset: number) =>
        uniformParameter(device, `experts.${e}.${name}`, shape, fanIn, seed + 4 * e + offset)
      return {
        w1: parameter('w1.weight', [hidden, dim], dim, 2),
        b1: parameter('w1.bias', [hidden], dim, 3),
        w2: parameter('w2.weight', [dim, hidden], hidden, 4),
        b2: parameter('w2.bias', [dim], hidden, 5),
      }
    }
    const made = disposeOnError(() => ({
      experts: Array.from({ length: experts }, (_, e) => newExpert(e)),
      router: uniformParameter(device, 'router.weight', [experts, dim], dim, seed + 1),
    }))
    this.#experts = made.experts
    this.#router = made.router
    this.dense = [this.#router, ...this.#experts.flatMap(({ w1, b1, w2, b2 }) => [w1, b1, w2, b2])]
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]` float32, at least one token
   * @returns the output in the shape of x, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<ExpertsSaved> } {
    return explicitly(() => {
      const where = 'MixtureOfExperts.forward'
      const compute = this.#compute
      const { rows, restoreShape } = toRows(where, 'x', x, this.#device, this.#dim)
      const { probabilities, indices, gates } = this.#route(rows)
      const entries = indices.size
      const ones = constantTensor(where, this.#device, [entries, 1], 1)
      const inputs = ops.embeddingBag(rows, indices, ones)
      ones.dispose()
      const a = this.#device.empty([entries, this.#hidden])
      this.#eachExpert({ inputs, a }, (expertRows, { w1, b1 }) =>
        ops.linear(expertRows.inputs, w1.value, b1.value, { compute, out: expertRows.a }),
      )
      const h = ops.gelu(a)
      const outputs = this.#device.empty([entries, this.#dim])
      this.#eachExpert({ h, outputs }, (expertRows, { w2, b2 }) =>
        ops.linear(expertRows.h, w2.value, b2.value, { compute, out: expertRows.outputs }),
      )
      const output = scatter(outputs, rows, indices, gates)
      const saved = { x: rows, probabilities, indices, gates, inputs, a, h, outputs }
      const weights = [this.#router, ...this.#experts.flatMap(({ w1, w2 }) => [w1, w2])]
      const reads = { x: rows, ...valuesByName(weights) }
      return { output: restoreShape(output), context: new Saved(this, saved, reads) }
    })
  }

  /** @internal How often a token is multiplied by a parameter, on average. */
  readsPerToken(name: string): number {
    return name.endsWith('router.weight') ? 1 : this.#capacity / this.#experts.length
  }

  /** The tokens of each expert: probabilities `[T, E]`, indices and gates `[E * k, 1]`. */
  #route(rows: Tensor): Record<'probabilities' | 'indices' | 'gates', Tensor> {
    const experts = this.#experts.length
    const tokens = rows.size / this.#dim
    const perExpert = Math.ceil((this.#capacity * tokens) / experts)
    const k = Math.max(1, Math.min(tokens, perExpert))
    const logits = ops.linear(rows, this.#router.value)
    const probabilities = ops.softmax(logits)
    const byExpert = ops.permute(probabilities, [1, 0])
    const top = ops.topK(byExpert, k)
    const indices = top.indices.reshape([experts * k, 1])
    const gates = top.values.reshape([experts * k, 1])
    for (const t of [logits, byExpert, top.values, top.indices]) t.dispose()
    return { probabilities, indices, gates }
  }

  /**
   * Adds to the gradients and returns dx; which tokens an expert selects is taken as constant.
   * @throws ERR_CONTEXT, ERR_SHAPE
   */
  backward(context: Saved<ExpertsSaved>, dy: LayerInput): Tensor<'float32'> {
    const where = 'MixtureOfExperts.backward'
    return Saved.spend(where, context, this, this.#device, (saved) => {
      const { x, indices, gates, outputs } = saved
      const tokens = x.shape[0]!
      const { rows, restoreShape } = toGradientRows(where, dy, this.#device, this.#dim, tokens)
      const dOutputs = ops.embeddingBag(rows, indices, gates)
      const { dWeights: dGates } = ops.embeddingBagBackward(outputs, rows, indices, gates, {
        needs: { table: false, weights: true },
      })
      const dx = this.#expertsBackward(saved, dOutputs)
      const dxOfRouter = this.#routerBackward(saved, dGates)
      ops.add(dx, dxOfRouter, { out: dx })
      for (const t of [rows, dOutputs, dGates, dxOfRouter]) t.dispose()
      return restoreShape(dx)
    })
  }

  /** From the gradient of the experts' outputs `[E * k, dim]` to that of x. */
  #expertsBackward(
    { x, indices, inputs, a, h }: ExpertsSaved,
    dOutputs: Tensor,
  ): Tensor<'float32'> {
    const dHidden = this.#device.empty(h.shape)
    this.#eachExpert({ dOutputs, h, dHidden }, (expertRows, { w2, b2 }) =>
      ops.linearBackward(expertRows.dOutputs, expertRows.h, w2.value, {
        into: { weight: w2.grad, bias: b2.grad },
        compute: this.#compute,
        out: { dx: expertRows.dHidden },
      }),
    )
    ops.geluBackward(dHidden, a, { out: dHidden })
    const dInputs = this.#device.empty(inputs.shape)
    this.#eachExpert({ dHidden, inputs, dInputs }, (expertRows, { w1, b1 }) =>
      ops.linearBackward(expertRows.dHidden, expertRows.inputs, w1.value, {
        into: { weight: w1.grad, bias: b1.grad },
        compute: this.#compute,
        out: { dx: expertRows.dInputs },
      }),
    )
    const ones = constantTensor('MixtureOfExperts.backward', this.#device, indices.shape, 1)
    const dx = scatter(dInputs, x, indices, ones)
    for (const t of [dHidden, dInputs, ones]) t.dispose()
    return dx
  }

  /** From the gradient of the gates `[E * k, 1]` to that of x. */
  #routerBackward({ x, probabilities, indices }: ExpertsSaved, dGates: Tensor): Tensor {
    const oneHot = this.#expertOneHot(indices.size)
    const dProbabilities = scatter(oneHot, probabilities, indices, dGates)
    const dLogits = ops.softmaxBackward(dProbabilities, probabilities)
    const { dx } = ops.linearBackward(dLogits, x, this.#router.value, {
      needs: { x: true, weight: true, bias: false },
      into: { weight: this.#router.grad },
    })
    for (const t of [oneHot, dProbabilities, dLogits]) t.dispose()
    return dx
  }

  /** `[entries, E]`: a one in the column of each entry's expert. */
  #expertOneHot(entries: number): Tensor {
    const experts = this.#experts.length
    const perExpert = entries / experts
    const oneHot = new Float32Array(entries * experts)
    for (let i = 0; i < entries; i++) oneHot[i * experts + Math.floor(i / perExpert)] = 1
    return this.#device.tensor(oneHot, [entries, experts])
  }

  /** Calls `body` for each expert with its rows of the tensors, in the same memory. */
  #eachExpert<Name extends string>(
    tensors: Record<Name, Tensor>,
    body: (rows: Record<Name, Tensor>, expert: Expert) => unknown,
  ): void {
    for (const [e, expert] of this.#experts.entries()) {
      const rows = { ...tensors }
      for (const name in tensors) rows[name] = rowsOfExpert(tensors[name], e, this.#experts.length)
      body(rows, expert)
      for (const name in rows) rows[name].dispose()
    }
  }
}

/** The rows of expert e, in the same memory: a tensor's rows divide equally among the experts. */
function rowsOfExpert(tensor: Tensor, e: number, experts: number): Tensor {
  const [count = 0] = tensor.shape
  const perExpert = count / experts
  return tensor.rows(e * perExpert, (e + 1) * perExpert)
}

/**
 * Adds rows to the tokens they belong to: `out[indices[i], :] += weights[i] * rows[i, :]`, in the
 * shape of `like`.
 */
function scatter(rows: Tensor, like: Tensor, indices: Tensor, weights: Tensor): Tensor<'float32'> {
  const { dTable } = ops.embeddingBagBackward(rows, like, indices, weights, {
    needs: { table: true, weights: false },
  })
  const dense = dTable.toDense()
  dTable.dispose()
  return dense
}
