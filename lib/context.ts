import { type ContextHandle, native } from './binding.js'
import { captureId, checkCaptureId } from './capturing.js'
import type { Device } from './device.js'
import { MemoryLayersError } from './errors.js'
import { inspect } from './inspect.js'
import { Tensor } from './tensor.js'

/**
 * What a forward saved for one backward. Several may be pending at once; each is spent by its
 * backward.
 */
export class Context {
  readonly #device: Device
  readonly #handle: ContextHandle
  readonly #capture = captureId()

  /** @internal */
  constructor(device: Device, handle: ContextHandle) {
    this.#device = device
    this.#handle = handle
  }

  /** @internal */
  static handleOf(where: string, context: unknown): ContextHandle {
    if (typeof context !== 'object' || context === null || !(#handle in context)) {
      throw new MemoryLayersError(
        'ERR_CONTEXT',
        `${where}: "context" must be the context that forward returned.`,
      )
    }
    checkCaptureId(where, context.#capture)
    return context.#handle
  }

  /**
   * Copies of the slots the lookup selected, `[T, H, k]`: scores and weights float32, indices
   * int32. For study.
   * @throws ERR_CONTEXT once spent
   */
  lookup(): {
    scores: Tensor<'float32'>
    indices: Tensor<'int32'>
    weights: Tensor<'float32'>
  } {
    const { scores, indices, weights } = native.contextLookup(this.#handle)
    return {
      scores: new Tensor(this.#device, scores),
      indices: new Tensor(this.#device, indices),
      weights: new Tensor(this.#device, weights),
    }
  }

  /** Frees what was saved, for a forward without a backward. */
  dispose(): void {
    native.contextDispose(this.#handle)
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    return `Context on ${this.#device.name}`
  }
}
