// Long work of JavaScript in short pieces, so that the event loop goes on.

import { setImmediate } from 'node:timers/promises'

const pieceMilliseconds = 8

/** Lets the event loop run when a piece of time is over. */
export class Pace {
  #begin = performance.now()

  /** Whether the event loop should run. */
  get due(): boolean {
    return performance.now() - this.#begin > pieceMilliseconds
  }

  async rest(): Promise<void> {
    await setImmediate()
    this.#begin = performance.now()
  }
}

/** Runs steps to their end, at once. */
export function finish<T>(steps: Generator<void, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** Runs steps to their end; the event loop runs meanwhile. */
export async function finishPaced<T>(steps: Generator<void, T>): Promise<T> {
  const pace = new Pace()
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    if (pace.due) await pace.rest()
  }
}
