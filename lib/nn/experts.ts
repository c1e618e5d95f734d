// The experts of a mixture, and the way there and back, however tokens and experts have chosen.

import { keep } from '../autograd/tidy.js'
import type { Compute } from '../compute.js'
import type { Device } from '../device.js'
import { constantTensor } from '../new-tensor.js'
import * as ops from '../ops.js'
import { type DenseParameter, denseParameter, stateEntries } from '../parameter.js'
import { loadStateDict, type StateDict, stateDictOf } from '../state-dict.js'
import type { Tensor } from '../tensor.js'
import type { Layer } from './children.js'

/** One matrix or vector of every expert: in one memory, of which each expert's is a part. */
interface Stack {
  /** `[E, out, in]` or `[E, out]`. */
  readonly value: Tensor<'float32'>
  readonly grad: Tensor<'float32'>
}

/**
 * Which expert computes which token, of T tokens, E experts and R chosen pairs (token, expert), in
 * two orders. Without `tokenOffsets` each token has R / T experts.
 * - by expert: `tokens` `[R]`, `expertGates` `[R, 1]`, `expertOffsets` `[E + 1]`
 * - by token: `experts` and `gates` `[T, R / T]` or `[R]`, `positions` of the pairs in the other
 *   order likewise, `tokenOffsets` `[T + 1]`
 */
export type Routing = Record<
  'tokens' | 'expertGates' | 'expertOffsets' | 'experts' | 'gates' | 'positions',
  Tensor
> & { [name: string]: Tensor }

/** What a backward needs: the routing, and of each pair the numbers on its way, by expert. */
export type ExpertsSaved = Routing & Record<'inputs' | 'a' | 'h' | 'outputs', Tensor>

/** Sizes, names and seeds of {@link Experts}. */
export interface ExpertsOptions {
  dim: number
  hiddenDim: number
  /** How many of the experts compute a token, on average. */
  perToken: number
  /** Of the experts' products. */
  compute: Compute
  /** Of the parameters' names. */
  prefix: string
  /** The first of each expert's four. */
  seeds: readonly number[]
}

const names = ['w1', 'b1', 'w2', 'b2'] as const

/** E experts, each `W2 gelu(W1 x + b1) + b2`: only chosen pairs are computed, all at once. */
export class Experts implements Layer {
  readonly #device: Device
  readonly #compute: Compute
  readonly #stacks: Readonly<Record<(typeof names)[number], Stack>>
  readonly #parameters: readonly DenseParameter[]
  /** How often a token is multiplied by a weight, on average. */
  readonly readsPerToken: number

  /** To be called inside of disposeOnError. */
  constructor(device: Device, options: ExpertsOptions) {
    const { dim, hiddenDim, perToken, prefix, seeds } = options
    this.#compute = options.compute
    const count = seeds.length
    this.#device = device
    this.readsPerToken = perToken / count
    const shapes = { w1: [hiddenDim, dim], b1: [hiddenDim], w2: [dim, hiddenDim], b2: [dim] }
    const stack = (name: keyof typeof shapes): Stack => {
      const shape = [count, ...shapes[name]]
      return { value: keep(device.empty(shape)), grad: keep(device.zeros(shape)) }
    }
    this.#stacks = { w1: stack('w1'), b1: stack('b1'), w2: stack('w2'), b2: stack('b2') }
    this.#parameters = seeds.flatMap((seed, e) =>
      names.map((name, i) => {
        const { value, grad } = this.#stacks[name]
        const [path, kind] = [`${prefix}${e}.w${name[1]}`, name[0] === 'w' ? 'weight' : 'bias']
        const own = denseParameter(`${path}.${kind}`, part(value, e), part(grad, e))
        const bound = 1 / Math.sqrt(i < 2 ? dim : hiddenDim)
        const range = { low: -bound, high: bound, seed: seed + i }
        const initial = device.uniform(own.value.shape, range)
        own.value.copyFrom(initial)
        initial.dispose()
        return own
      }),
    )
  }

  /** Of `W1, b1, W2, b2` of each expert. */
  parameters(): readonly DenseParameter[] {
    return this.#parameters
  }

  /** The live tensors by name. */
  stateDict(): StateDict {
    return stateDictOf(this.#parameters)
  }

  /** Copies tensors in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    loadStateDict('Experts.loadStateDict', stateEntries(this.#parameters), state)
  }

  /** Frees the parameters. */
  dispose(): void {
    for (const { value, grad } of [...this.#parameters, ...Object.values(this.#stacks)]) {
      value.dispose()
      grad.dispose()
    }
  }

  /** The tensors that a backward reads, by name. */
  weights(): Record<string, Tensor> {
    return { 'experts.w1': this.#stacks.w1.value, 'experts.w2': this.#stacks.w2.value }
  }

  /**
   * `y[t] = sum over the experts e of token t of gate * expert_e(x[t])`.
   * @param x `[T, dim]` float32
   */
  forward(x: Tensor, routing: Routing): { y: Tensor<'float32'>; saved: ExpertsSaved } {
    const { w1, b1, w2, b2 } = this.#stacks
    const { tokens, expertOffsets, positions, gates } = routing
    const compute = { compute: this.#compute }
    const inputs = ops.embedding(x, tokens)
    const a = ops.groupedLinear(inputs, w1.value, expertOffsets, b1.value, compute)
    const h = ops.gelu(a)
    const outputs = ops.groupedLinear(h, w2.value, expertOffsets, b2.value, compute)
    const y = ops.embeddingBag(outputs, positions, gates, tokenBags(routing))
    return { y, saved: { ...routing, inputs, a, h, outputs } }
  }

  /** Adds to the gradients; returns that of x, and that of the probabilities `[T, E]`. */
  backward(saved: ExpertsSaved, dy: Tensor): Record<'dx' | 'dProbabilities', Tensor<'float32'>> {
    const { w1, b1, w2, b2 } = this.#stacks
    const { inputs, a, h, expertOffsets, tokens, expertGates } = saved
    const pairs = tokens.reshape(expertGates.shape)
    const dOutputs = ops.embeddingBag(dy, pairs, expertGates)
    const { dx: dHidden } = ops.groupedLinearBackward(dOutputs, h, w2.value, expertOffsets, {
      into: { weights: w2.grad, bias: b2.grad },
      compute: this.#compute,
    })
    ops.geluBackward(dHidden, a, { out: dHidden })
    const { dx: dInputs } = ops.groupedLinearBackward(dHidden, inputs, w1.value, expertOffsets, {
      into: { weights: w1.grad, bias: b1.grad },
      compute: this.#compute,
    })
    const ones = constantTensor('MixtureOfExperts.backward', this.#device, saved.gates.shape, 1)
    const dx = ops.embeddingBag(dInputs, saved.positions, ones, tokenBags(saved))
    const dProbabilities = this.#routingGradient(saved, dy)
    for (const t of [pairs, dOutputs, dHidden, dInputs, ones]) t.dispose()
    return { dx, dProbabilities }
  }

  /** How often each expert was chosen, `[1, E]` float32. */
  countChoices({ experts }: Routing): Tensor<'float32'> {
    const all = [1, experts.size]
    const ones = constantTensor('TokenChoiceExperts.apply', this.#device, all, 1)
    const identity = this.#identity()
    const flat = experts.reshape(all)
    const counts = ops.embeddingBag(identity, flat, ones)
    for (const t of [ones, identity, flat]) t.dispose()
    return counts
  }

  /** The gradient of the gates, each in the column of its expert: `[T, E]`. */
  #routingGradient(saved: ExpertsSaved, dy: Tensor): Tensor<'float32'> {
    const { outputs, positions, gates, experts } = saved
    const bags = tokenBags(saved)
    const { dWeights: dGates } = ops.embeddingBagBackward(dy, outputs, positions, gates, {
      ...bags,
      needs: { table: false, weights: true },
    })
    const identity = this.#identity()
    const gradient = ops.embeddingBag(identity, experts, dGates, bags)
    for (const t of [dGates, identity]) t.dispose()
    return gradient
  }

  /** `[E, E]`: row e has a one in column e. */
  #identity(): Tensor<'float32'> {
    const count = this.#stacks.w1.value.shape[0]!
    const numbers = new Float32Array(count * count)
    for (let e = 0; e < count; e++) numbers[e * (count + 1)] = 1
    return this.#device.tensor(numbers, [count, count])
  }
}

/** Expert e's part of a stack, in the same memory. */
function part(stack: Tensor<'float32'>, e: number): Tensor<'float32'> {
  const [count = 0, rows = 0, ...rest] = stack.shape
  const flat = stack.reshape([count * rows, ...rest])
  const own = flat.rows(e * rows, (e + 1) * rows)
  flat.dispose()
  return own
}

function tokenBags(routing: Routing): { offsets?: Tensor } {
  const offsets = routing['tokenOffsets']
  return offsets ? { offsets } : {}
}
