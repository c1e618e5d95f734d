// When an optimizer of this package steps: with the optimizer of TensorFlow.js.

import type { Stepper } from './types.js'

/**
 * The layers of one optimizer. TensorFlow.js computes all gradients of a batch, then assigns the
 * variables of the model, each layer's anchor among them: the first assignment steps.
 */
export class Trainer {
  readonly #optimizer: Stepper
  #tape: unknown
  /** Gradients were added since the last step. */
  #added = false
  /** Gradients of the parameters were asked for: not of an input alone. */
  #claimed = false

  constructor(optimizer: Stepper) {
    this.#optimizer = optimizer
  }

  /** Drops what was added while only the gradient of an input was computed. */
  begin(tape: unknown): void {
    if (tape === this.#tape) return
    this.#tape = tape
    if (this.#added && !this.#claimed) this.drop()
  }

  added(): void {
    this.#added = true
  }

  claimed(): void {
    this.#claimed = true
  }

  /** TensorFlow.js updates its variables: once for each batch, whichever layer comes first. */
  step(): void {
    if (!this.#claimed) return
    this.#optimizer.step()
    this.drop()
  }

  drop(): void {
    this.#added = false
    this.#claimed = false
    this.#optimizer.zeroGrad()
  }
}

const trainers = new WeakMap<Stepper, Trainer>()

/** One for each optimizer, however many layers it updates. */
export function trainerOf(optimizer: Stepper): Trainer {
  const known = trainers.get(optimizer) ?? new Trainer(optimizer)
  trainers.set(optimizer, known)
  return known
}
