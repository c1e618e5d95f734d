import { noGrad } from '../autograd/recording.js'
import type { Compute } from '../compute.js'
import type { Device } from '../device.js'
import { constantTensor } from '../new-tensor.js'
import * as ops from '../ops.js'
import { checkInteger, checkNumber, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { FeedForward } from './feed-forward.js'
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

const maxExperts = 4096

/**
 * A mixture of experts in which each token chooses its experts (Shazeer et al. 2017; Fedus et al.
 * 2021): of the softmax over experts the k most probable,
 * `y[t] = sum over those e of probabilities[t, e] * expert_e(x[t])`. No token is dropped: every
 * expert computes every token, and those that were not chosen count nothing, so that a token's
 * output depends on no other token.
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
  readonly experts: readonly FeedForward[]
  readonly #perToken: number
  readonly #balance: number
  readonly #dim: number

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: TokenChoiceExpertsOptions) {
    super(device)
    const where = 'TokenChoiceExperts'
    const names = ['dim', 'hiddenDim', 'experts', 'expertsPerToken', 'balance', 'compute', 'seed']
    const checked = checkOptions(where, options, names)
    const { dim, hiddenDim, experts, expertsPerToken, balance, compute, seed } = checked
    const count = checkInteger(where, 'experts', experts, 1, maxExperts)
    const standard = Math.min(2, count)
    this.#perToken = checkInteger(where, 'expertsPerToken', expertsPerToken ?? standard, 1, count)
    this.#balance = checkNumber(where, 'balance', balance ?? 0.01, 0)
    const made = device.seeds.within(seed, () => ({
      router: new Linear(device, { inputDim: dim, outputDim: count, bias: false }),
      experts: Array.from(
        { length: count },
        () => new FeedForward(device, { dim, hiddenDim, compute }),
      ),
    }))
    this.#dim = checkInteger(where, 'dim', dim)
    this.router = made.router
    this.experts = made.experts
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]` float32
   * @returns the output in the shape of x
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  apply(x: Tensor): Tensor {
    return this.applyBalanced(x).y
  }

  /**
   * The output, and the load-balancing loss (Fedus et al. 2021, section 2.2) times its weight:
   * `E * sum over e of share of the choices that fell on e * mean probability of e`, at least 1.
   */
  applyBalanced(x: Tensor): { y: Tensor; loss: Tensor } {
    const count = this.experts.length
    const rows = x.reshape([x.size / this.#dim, this.#dim])
    const probabilities = ops.softmax(this.router.apply(rows))
    const chosen = this.#choose(probabilities)
    const gates = ops.mul(probabilities, chosen)
    const outputs = this.experts.map((expert, e) => {
      const gate = ops.slice(gates, { begin: [0, e], end: [undefined, e + 1] })
      return ops.mul(expert.apply(rows), gate)
    })
    const y = outputs.reduce((sum, output) => ops.add(sum, output))
    const means = [chosen, probabilities].map((t) => ops.mean(t, { axes: 0 })) as [Tensor, Tensor]
    const factor = (this.#balance * count) / this.#perToken
    const loss = ops.mul(ops.sum(ops.mul(...means)).reshape([1]), factor)
    return { y: y.reshape(x.shape), loss }
  }

  /** `[tokens, E]`: 1 for the k most probable experts of a token, else 0; without a gradient. */
  #choose(probabilities: Tensor): Tensor {
    const { indices } = noGrad(() => ops.topK(probabilities, this.#perToken))
    const ones = constantTensor('TokenChoiceExperts.apply', this.device, indices.shape, 1)
    return ops.embeddingBag(identity(this.device, this.experts.length), indices, ones)
  }
}

function identity(device: Device, n: number): Tensor {
  const isDiagonal = (i: number) => i % (n + 1) === 0
  return device.tensor(
    Float32Array.from({ length: n * n }, (_, i) => (isDiagonal(i) ? 1 : 0)),
    [n, n],
  )
}
