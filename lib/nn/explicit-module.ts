// What every module of the small dense stack has in common.

import { atomically, disposeOnError, whenCommitted } from '../atomically.js'
import { applied, type ExplicitLayer } from '../autograd/apply.js'
import { type HeldTensor, lending, releaseHold } from '../autograd/graph.js'
import { unrecorded } from '../autograd/recording.js'
import { native } from '../binding.js'
import { captureId, checkCaptureId } from '../capturing.js'
import type { Device } from '../device.js'
import { describeValue } from '../errors.js'
import { inspect } from '../inspect.js'
import type { LayerInput } from '../layer-input.js'
import { type DenseParameter, denseParameter, type Parameter, stateEntries } from '../parameter.js'
import { checkUnwritten, contextError } from '../reads.js'
import { loadStateDict, type StateDict, stateDictOf } from '../state-dict.js'
import { formatShape, type Tensor } from '../tensor.js'

/** A layer with its forward and backward by hand: memory layers and the layers here have them. */
export interface ExplicitModule<Saved = unknown> {
  /** The output, and what its backward needs. */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved }
  /** Adds to the parameters' gradients, spends the context, and returns the gradient of x. */
  backward(context: Saved, dy: LayerInput): Tensor<'float32'>
  /** The output alone. */
  infer(x: LayerInput): Tensor<'float32'>
  /** The output, recorded for `backward()` of what is computed from it. */
  apply(x: LayerInput): Tensor<'float32'>
  /** For an optimizer. */
  parameters(): readonly Parameter[]
  /** The live tensors by name. */
  stateDict(): StateDict
  /** Copies tensors in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void
  /** Frees the parameters. */
  dispose(): void
}

/** Runs an explicit forward, which records nothing; if it throws, disposes what it made. */
export function explicitly<T>(body: () => T): T {
  return unrecorded(() => disposeOnError(body))
}

/** Of dense parameters, the tensors that a backward may read, by name. */
export function valuesByName(parameters: readonly DenseParameter[]): Record<string, Tensor> {
  return Object.fromEntries(parameters.map(({ name, value }) => [name, value]))
}

/** A new dense parameter; its gradient is zeros. */
export function newParameter(
  device: Device,
  name: string,
  value: Tensor<'float32'>,
): DenseParameter {
  return denseParameter(name, value, device.zeros(value.shape))
}

/** A new parameter, uniform in ±1/sqrt(fanIn): the usual initial values of a linear map. */
export function uniformParameter(
  device: Device,
  name: string,
  shape: readonly number[],
  fanIn: number,
  seed: number,
): DenseParameter {
  const bound = 1 / Math.sqrt(fanIn)
  return newParameter(device, name, device.uniform(shape, { low: -bound, high: bound, seed }))
}

/** Inference, state dict and disposal of a module whose parameters are all dense. */
export abstract class DenseModule {
  protected abstract readonly dense: readonly DenseParameter[]

  abstract forward(x: LayerInput): { output: Tensor<'float32'>; context: { dispose(): void } }

  abstract backward(context: never, dy: LayerInput): Tensor<'float32'>

  /**
   * The output, recorded for `backward()` of what is computed from it; inside of `noGrad` the same
   * as `infer`. Arguments and errors as of `forward`.
   */
  apply(x: LayerInput): Tensor<'float32'> {
    const explicit = this as ExplicitLayer<{ dispose(): void }>
    return applied(`${this.constructor.name}.apply`, explicit, x)
  }

  /** The output alone. */
  infer(x: LayerInput): Tensor<'float32'> {
    const { output, context } = this.forward(x)
    context.dispose()
    return output
  }

  /** The module's parameters with their gradients. */
  parameters(): readonly Parameter[] {
    return this.dense
  }

  /** The live tensors by name, a shared table's rows among them. */
  stateDict(): StateDict {
    return stateDictOf(this.parameters())
  }

  /**
   * Copies tensors in, all or nothing. A shared table may be left out.
   * @throws ERR_STATE_DICT
   */
  loadStateDict(state: StateDict): void {
    const parameters = this.parameters()
    const optional = parameters.filter((p) => p.kind === 'table').map((p) => p.name)
    const entries = stateEntries(parameters, { optional })
    loadStateDict(`${this.constructor.name}.loadStateDict`, entries, state)
  }

  /** Frees the parameters and their gradients; a shared table stays. */
  dispose(): void {
    for (const { value, grad } of this.dense) {
      value.dispose()
      grad.dispose()
    }
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    const shapes = this.dense.map(({ name, value }) => `${name} ${formatShape(value.shape)}`)
    const rest = shapes.length > 4 ? `, …, ${shapes.length} in all` : ''
    return `${this.constructor.name} ${shapes.slice(0, 4).join(', ')}${rest}`
  }
}

/** What a forward saved for one backward. */
export class Saved<T extends Record<string, Tensor>> {
  readonly #owner: object
  readonly #reads: readonly Read[]
  readonly #held: readonly HeldTensor[]
  readonly #capture = captureId()
  #tensors: T | undefined

  /**
   * @internal
   * @param reads the tensors of others that backward reads, by name: the input, parameters
   */
  constructor(owner: object, tensors: T, reads: Record<string, Tensor>) {
    this.#owner = owner
    this.#tensors = tensors
    this.#reads = Object.entries(reads).map(([name, tensor]) => ({
      name,
      tensor,
      writes: native.tensorWrites(tensor.handle('forward', name)),
    }))
    // The last that may fail is behind: what is held is released by a backward or by dispose().
    this.#held = Object.values(tensors).map((tensor) => ({
      tensor,
      hold: tensor.hold('forward', 'saved'),
    }))
  }

  /**
   * @internal Runs `body`, a backward of the module `owner`, on what its forward saved: all or
   * nothing. Then the context is spent.
   * @throws ERR_CONTEXT for a spent or foreign context and for what no forward returned, and where
   * a tensor that backward reads was written since forward
   */
  static spend<T extends Record<string, Tensor>, R>(
    where: string,
    context: Saved<T>,
    owner: object,
    device: Device,
    body: (saved: T) => R,
  ): R {
    if (typeof context !== 'object' || context === null || !(#owner in context)) {
      const got = describeValue(context)
      throw contextError(where, `"context" must be the context of a forward, got ${got}`)
    }
    if (context.#owner !== owner) throw contextError(where, '"context" is from another module')
    const tensors = context.#tensors
    if (!tensors)
      throw contextError(where, '"context" was spent by an earlier backward or disposed')
    checkCaptureId(where, context.#capture)
    const result = lending(context.#held, () => {
      for (const { name, tensor, writes } of context.#reads)
        checkUnwritten(where, `"${name}"`, tensor.handle(where, name), writes)
      return unrecorded(() => atomically(device, () => body(tensors)))
    })
    whenCommitted(() => context.dispose())
    return result
  }

  /** Frees what was saved, for a forward without a backward. */
  dispose(): void {
    if (!this.#tensors) return
    this.#tensors = undefined
    for (const { tensor, hold } of this.#held) {
      tensor.dispose()
      releaseHold(hold)
    }
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    return this.#tensors ? `Context of ${this.#owner.constructor.name}` : 'Context, spent'
  }
}

interface Read {
  readonly name: string
  readonly tensor: Tensor
  readonly writes: number
}
