import { disposeOnError } from '../atomically.js'
import { type Compute, checkCompute } from '../compute.js'
import { checkDevice, type Device } from '../device.js'
import type { LayerInput } from '../layer-input.js'
import * as ops from '../ops.js'
import { checkInteger, checkNumber, checkOptions, checkProduct, checkSeed } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { Experts, type ExpertsSaved, type Routing } from './experts.js'
import {
  DenseModule,
  type ExplicitModule,
  explicitly,
  Saved,
  uniformParameter,
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

/** @internal The input, the probabilities `[T, E]`, and what the experts save. */
export type MixtureSaved = ExpertsSaved & Record<'x' | 'probabilities', Tensor>

// The gradient of the routing goes through a matrix with a row and a column for each expert.
const maxExperts = 4096

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
export class MixtureOfExperts extends DenseModule implements ExplicitModule<Saved<MixtureSaved>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #count: number
  readonly #capacity: number
  readonly #router: DenseParameter
  readonly #experts: Experts

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: MixtureOfExpertsOptions) {
    super()
    const where = 'MixtureOfExperts'
    checkDevice(where, device)
    const names = ['dim', 'hiddenDim', 'experts', 'capacity', 'compute', 'seed']
    const checked = checkOptions(where, options, names)
    const compute = checkCompute(where, device, checked.compute)
    const dim = checkInteger(where, 'dim', checked.dim)
    const hidden = checkInteger(where, 'hiddenDim', checked.hiddenDim)
    const experts = checkInteger(where, 'experts', checked.experts, 1, maxExperts)
    checkProduct(where, { experts, dim, hiddenDim: hidden })
    this.#device = device
    this.#dim = dim
    this.#count = experts
    this.#capacity = checkNumber(where, 'capacity', checked.capacity ?? 2, 0)
    const create = (first: number) => ({
      experts: new Experts(device, {
        dim,
        hiddenDim: hidden,
        perToken: this.#capacity,
        compute,
        prefix: 'experts.',
        seeds: Array.from({ length: experts }, (_, e) => first + 4 * e + 2),
      }),
      router: uniformParameter(device, 'router.weight', [experts, dim], dim, first + 1),
    })
    const made = device.seeds.use(checkSeed(where, checked.seed), (seed) =>
      disposeOnError(() => create((1 + 4 * experts) * seed)),
    )
    this.#experts = made.experts
    this.#router = made.router
    this.dense = [this.#router, ...made.experts.parameters()]
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]` float32, at least one token
   * @returns the output in the shape of x, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<MixtureSaved> } {
    return explicitly(() => {
      const where = 'MixtureOfExperts.forward'
      const { rows, restoreShape } = toRows(where, 'x', x, this.#device, this.#dim)
      const { probabilities, ...routing } = this.#route(rows)
      const { y, saved } = this.#experts.forward(rows, routing as Routing)
      const reads = { x: rows, 'router.weight': this.#router.value, ...this.#experts.weights() }
      const context = new Saved(this, { ...saved, x: rows, probabilities }, reads)
      return { output: restoreShape(y), context }
    })
  }

  /** @internal How often a token is multiplied by a parameter, on average. */
  readsPerToken(name: string): number {
    return name.endsWith('router.weight') ? 1 : this.#experts.readsPerToken
  }

  /** The probabilities, and the tokens of each expert. */
  #route(rows: Tensor): Routing & { probabilities: Tensor } {
    const experts = this.#count
    const tokens = rows.size / this.#dim
    const perExpert = Math.ceil((this.#capacity * tokens) / experts)
    const k = Math.max(1, Math.min(tokens, perExpert))
    const logits = ops.linear(rows, this.#router.value)
    const probabilities = ops.softmax(logits)
    const byExpert = ops.permute(probabilities, [1, 0])
    const { values, indices } = ops.topK(byExpert, k)
    const byToken = ops.groupByIndex(indices, tokens)
    const expertGates = values.reshape([experts * k, 1])
    const gates = ops.embedding(expertGates, byToken.order)
    const routing = {
      probabilities,
      tokens: indices.reshape([experts * k]),
      expertGates,
      expertOffsets: this.#device.tensor(Int32Array.from({ length: experts + 1 }, (_, e) => e * k)),
      experts: byToken.bags,
      gates: gates.reshape([experts * k]),
      positions: byToken.order,
      tokenOffsets: byToken.offsets,
    }
    for (const t of [logits, byExpert, values, indices, byToken.positions, gates]) t.dispose()
    return routing
  }

  /**
   * Adds to the gradients and returns dx; which tokens an expert selects is taken as constant.
   * @throws ERR_CONTEXT, ERR_SHAPE
   */
  backward(context: Saved<MixtureSaved>, dy: LayerInput): Tensor<'float32'> {
    const where = 'MixtureOfExperts.backward'
    return Saved.spend(where, context, this, this.#device, (saved) => {
      const { x, probabilities } = saved
      const tokens = x.shape[0]!
      const { rows, restoreShape } = toGradientRows(where, dy, this.#device, this.#dim, tokens)
      const { dx, dProbabilities } = this.#experts.backward(saved, rows)
      const dLogits = ops.softmaxBackward(dProbabilities, probabilities)
      const { dx: dxOfRouter } = ops.linearBackward(dLogits, x, this.#router.value, {
        needs: { x: true, weight: true, bias: false },
        into: { weight: this.#router.grad },
      })
      ops.add(dx, dxOfRouter, { out: dx })
      for (const t of [rows, dProbabilities, dLogits, dxOfRouter]) t.dispose()
      return restoreShape(dx)
    })
  }

  /** Frees the parameters and their gradients. */
  override dispose(): void {
    super.dispose()
    this.#experts.dispose()
  }
}
