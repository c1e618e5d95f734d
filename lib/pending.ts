// Collectives on their way.

import { native, type PendingHandle } from './binding.js'
import type { Tensor } from './tensor.js'

/** A result that is on its way. */
export class Arriving {
  readonly #tensor: Tensor
  #pending: PendingHandle | undefined

  /** @internal */
  constructor(tensor: Tensor, pending: PendingHandle) {
    this.#tensor = tensor
    this.#pending = pending
  }

  /** The result, for work that follows: that waits for it, the caller does not. */
  wait(): Tensor {
    if (this.#pending) native.pendingWait(this.#pending)
    this.#pending = undefined
    return this.#tensor
  }
}

/** A sum over the ranks that is on its way, in two stages. */
export class PendingReduce {
  readonly #pending: PendingHandle

  /** @internal */
  constructor(pending: PendingHandle) {
    this.#pending = pending
  }

  /** Has the stream sum what has arrived and send the sums on, beside the work that follows. */
  advance(): void {
    native.pendingAdvance(this.#pending)
  }

  /** Work that follows finds the sums: that waits for them, the caller does not. */
  wait(): void {
    native.pendingWait(this.#pending)
  }
}
