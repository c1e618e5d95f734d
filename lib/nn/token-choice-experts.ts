import { disposeOnError } from '../atomically.js'
import { record } from '../autograd/record.js'
import { isRecording } from '../autograd/recording.js'
import { type Compute, checkCompute } from '../compute.js'
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import { checkInteger, checkNumber, checkOptions, checkProduct, checkSeed } from '../options.js'
import { type Tensor, tensorHandle } from '../tensor.js'
import type { Layer } from './children.js'
import { Experts, type ExpertsSaved, type Routing } from './experts.js'
import { explicitly, Saved } from './explicit-module.js'
import { toRows } from './input.js'
import { Linear } from './linear.js'
import { Module } from './module.js'

/** Options of {@link TokenChoiceExperts}. */
export interface TokenChoiceExpertsOptions {
  /** Model width, in and out. */
  dim: number
  /** Width of an expert's hidden layer. */
  hiddenDim: number
  /** Number of experts, E, at most 4096. */
  experts: number
  /** How many experts each token chooses. Default 2, or 1 of one expert. */
  expertsPerToken?: number
  /** Weight of the load-balancing loss. Default 0.01. */
  balance?: number
  /** Of the experts' products; the router's are float32. Default 'float32'. */
  compute?: Compute
  /** Fixes the initial weights. Default: the next of the device's counter. */
  seed?: number
}

// The gradient of the routing goes through a matrix with a row and a column for each expert.
const maxExperts = 4096

/**
 * A mixture of experts in which each token chooses its experts (Shazeer et al. 2017; Fedus et al.
 * 2021): of the softmax over experts the k most probable,
 * `y[t] = sum over those e of probabilities[t, e] * expert_e(x[t])`. Only the chosen pairs of token
 * and expert are computed, and none is dropped: a token's output depends on no other token.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { TokenChoiceExperts } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const options = { dim: 64, hiddenDim: 128, experts: 8, expertsPerToken: 2 }
 * const experts = new TokenChoiceExperts(device, options)
 * const x = device.normal([32, 64], { seed: 1 })
 * const { y, loss } = experts.applyBalanced(x) // add a hundredth of the loss to the model's
 * ```
 */
export class TokenChoiceExperts extends Module {
  /** From a token to a number for each expert. */
  readonly router: Linear
  /** The experts, each `W2 gelu(W1 x + b1) + b2`. */
  readonly experts: Layer
  readonly #experts: Experts
  readonly #count: number
  readonly #perToken: number
  readonly #balance: number
  readonly #dim: number

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: TokenChoiceExpertsOptions) {
    super(device)
    const where = 'TokenChoiceExperts'
    const names = ['dim', 'hiddenDim', 'experts', 'expertsPerToken', 'balance', 'compute', 'seed']
    const checked = checkOptions(where, options, names)
    const dim = checkInteger(where, 'dim', checked.dim)
    const hiddenDim = checkInteger(where, 'hiddenDim', checked.hiddenDim)
    const count = checkInteger(where, 'experts', checked.experts, 1, maxExperts)
    checkProduct(where, { experts: count, dim, hiddenDim })
    const standard = checked.expertsPerToken ?? Math.min(2, count)
    const perToken = checkInteger(where, 'expertsPerToken', standard, 1, count)
    const compute = checkCompute(where, device, checked.compute)
    this.#balance = checkNumber(where, 'balance', checked.balance ?? 0.01, 0)
    const { router, experts } = device.seeds.within(checkSeed(where, checked.seed), () =>
      disposeOnError(() => {
        const router = new Linear(device, { inputDim: dim, outputDim: count, bias: false })
        const seeds = Array.from({ length: count }, () => 4 * device.seeds.next() + 1)
        const sizes = { dim, hiddenDim, perToken, compute }
        return { router, experts: new Experts(device, { ...sizes, prefix: '', seeds }) }
      }),
    )
    this.#dim = dim
    this.#count = count
    this.#perToken = perToken
    this.router = router
    this.experts = experts
    this.#experts = experts
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]` float32
   * @returns the output in the shape of x
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  apply(x: Tensor): Tensor {
    const { y, probabilities } = this.#run('TokenChoiceExperts.apply', x, false)
    probabilities.dispose()
    return y
  }

  /**
   * The output, and the load-balancing loss (Fedus et al. 2021, section 2.2) times its weight:
   * `E * sum over e of share of the choices that fell on e * mean probability of e`, at least 1.
   * @param x as of {@link TokenChoiceExperts.apply}
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  applyBalanced(x: Tensor): { y: Tensor; loss: Tensor } {
    const { y, probabilities, choices } = this.#run('TokenChoiceExperts.applyBalanced', x, true)
    const means = ops.mean(probabilities, { axes: 0, keepDims: true })
    const factor = (this.#balance * this.#count) / (this.#perToken * probabilities.shape[0]!)
    const loss = ops.mul(ops.sum(ops.mul(choices!, means)).reshape([1]), factor)
    for (const t of [probabilities, choices!]) t.dispose()
    return { y, loss }
  }

  /** y, the probabilities `[T, E]`, and if asked for how often each expert was chosen `[1, E]`. */
  #run(
    where: string,
    x: Tensor,
    counted: boolean,
  ): { y: Tensor; probabilities: Tensor; choices?: Tensor } {
    tensorHandle(where, 'x', x, this.device)
    const { rows } = toRows(where, 'x', x, this.device, this.#dim)
    const probabilities = ops.softmax(this.router.apply(rows))
    const { y, context, choices } = explicitly(() => {
      const routing = this.#route(probabilities)
      const { y, saved } = this.#experts.forward(rows, routing)
      const choices = counted ? this.#experts.countChoices(routing) : undefined
      const context = new Saved<ExpertsSaved>(this, saved, this.#experts.weights())
      return { y, context, choices }
    })
    if (isRecording()) this.#record(rows, probabilities, y, context)
    else context.dispose()
    const result = y.reshape(x.shape)
    for (const t of [rows, y]) t.dispose()
    return { y: result, probabilities, ...(choices && { choices }) }
  }

  #record(x: Tensor, probabilities: Tensor, y: Tensor, context: Saved<ExpertsSaved>): void {
    const where = 'TokenChoiceExperts.apply'
    record<'x' | 'probabilities', Tensor>(where, { x, probabilities }, y, {
      saved: {},
      backward: (dy) =>
        Saved.spend(where, context, this, this.device, (saved) => {
          const { dx, dProbabilities } = this.#experts.backward(saved, dy)
          return { x: dx, probabilities: dProbabilities }
        }),
      release: () => context.dispose(),
    })
  }

  #route(probabilities: Tensor): Routing {
    const { values: gates, indices: experts } = ops.topK(probabilities, this.#perToken)
    const { order, bags: tokens, positions, offsets } = ops.groupByIndex(experts, this.#count)
    const flat = gates.reshape([gates.size, 1])
    const expertGates = ops.embedding(flat, order)
    for (const t of [flat, order]) t.dispose()
    return { tokens, expertGates, expertOffsets: offsets, experts, gates, positions }
  }
}
