// What every module of the small dense stack has in common.

import type { LayerInput } from '../context.js'
import type { Device } from '../device.js'
import { MemoryLayersError } from '../errors.js'
import {
  type DenseParameter,
  loadInto,
  type Parameter,
  type StateDict,
  stateDictOf,
} from '../parameter.js'
import type { Tensor } from '../tensor.js'

/**
 * A part of a model: memory layers and the modules here have this shape, so they can be stacked.
 */
export interface Module<Saved = unknown> {
  /** The output, and what its backward needs. */
  forward(x: LayerInput): { output: Tensor; context: Saved }
  /** Adds to the parameters' gradients, spends the context, and returns the gradient of x. */
  backward(context: Saved, dy: LayerInput): Tensor
  /** The output alone. */
  infer(x: LayerInput): Tensor
  /** For an optimizer. */
  parameters(): readonly Parameter[]
  /** The live tensors by name. */
  stateDict(): StateDict
  /** Copies tensors in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void
  /** Gives the parameters back. */
  dispose(): void
}

/** A dense parameter with a gradient of zeros. */
export function parameter(device: Device, name: string, value: Tensor): DenseParameter {
  return { kind: 'dense', name, value, grad: device.zeros(value.shape) }
}

/** Uniform in ±1/sqrt(fan in), the usual start of a linear map. */
export function uniformParameter(
  device: Device,
  name: string,
  shape: readonly number[],
  fanIn: number,
  seed: number,
): DenseParameter {
  const bound = 1 / Math.sqrt(fanIn)
  return parameter(device, name, device.uniform(shape, { low: -bound, high: bound, seed }))
}

/** Inference, state dict and disposal of a module that keeps a list of dense parameters. */
export abstract class DenseModule {
  protected abstract readonly list: readonly DenseParameter[]

  abstract forward(x: LayerInput): { output: Tensor; context: { dispose(): void } }

  /** The output alone. */
  infer(x: LayerInput): Tensor {
    const { output, context } = this.forward(x)
    context.dispose()
    return output
  }

  /** The module's parameters with their gradients. */
  parameters(): readonly Parameter[] {
    return this.list
  }

  /** The live tensors by name. */
  stateDict(): StateDict {
    return stateDictOf(this.list)
  }

  /** Copies tensors in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    loadInto(`${this.constructor.name}.loadStateDict`, this.list, state)
  }

  /** Gives the parameters and their gradients back. */
  dispose(): void {
    for (const p of this.list) {
      p.value.dispose()
      p.grad.dispose()
    }
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** One use for what a forward saved. */
export class Saved<T extends Record<string, Tensor>> {
  #owner: object
  #tensors: T | undefined

  /** @internal */
  constructor(owner: object, tensors: T) {
    this.#owner = owner
    this.#tensors = tensors
  }

  /**
   * @internal What was saved, for the backward of the module it is from; the module then disposes
   * it.
   */
  peek(where: string, owner: object): T {
    if (this.#owner !== owner) throw contextError(where, 'is from another module')
    if (!this.#tensors) throw contextError(where, 'was spent by an earlier backward or disposed')
    return this.#tensors
  }

  /** Drops what was saved, for a forward that gets no backward. */
  dispose(): void {
    for (const t of Object.values(this.#tensors ?? {})) t.dispose()
    this.#tensors = undefined
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

function contextError(where: string, what: string): MemoryLayersError {
  return new MemoryLayersError(
    'ERR_CONTEXT',
    `${where}: "context" ${what}.\n  Each forward gives a context for one backward; run forward again.`,
  )
}
