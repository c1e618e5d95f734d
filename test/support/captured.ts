// Training by steps that are captured, beside training by the same steps that are not.

import { expect } from 'vitest'
import type { Device, Optimizer, Parameter, Tensor } from '../../lib/index.js'
import { numbersOf } from './faults.js'
import { valuesOf } from './layers.js'

/** Something that is trained. */
export interface Trained {
  readonly optimizer: Optimizer
  readonly parameters: readonly Parameter[]
  /** Writes what step `i` reads. */
  feed(i: number): void
  /** One step; what it returns is compared. */
  step(): Tensor[]
}

/** A learning rate for step `i`. */
export const rateAt = (i: number) => 0.02 / (1 + (i % 7))

/** Parameters and optimizer states. */
export async function stateOf({ optimizer, parameters }: Trained): Promise<unknown> {
  const states = Object.entries(optimizer.stateDict()).map(async ([name, t]) => [
    name,
    Array.from(await t.bits()),
  ])
  return { values: await valuesOf(parameters), states: await Promise.all(states) }
}

/** What reading the tensors gives: numbers, or the message of the fault. */
function read(tensors: readonly Tensor[]): Promise<unknown[]> {
  return Promise.all(tensors.map((t) => numbersOf(t).catch((error: Error) => error.message)))
}

/**
 * Trains twins, one by steps and one by replays of a captured step. They must agree: in what the
 * steps return, each `every`-th time, and at the end in their states.
 */
export async function expectSameTraining(
  device: Device,
  make: () => Trained,
  steps: number,
  every = 10,
): Promise<unknown[]> {
  const [plain, captured] = [make(), make()]
  const before = await stateOf(captured)
  using step = device.capture(() => captured.step())
  expect(await stateOf(captured), 'capturing runs nothing').toEqual(before)
  const results: unknown[] = []
  for (let i = 0; i < steps; i++) {
    for (const twin of [plain, captured]) {
      twin.feed(i)
      twin.optimizer.lr = rateAt(i)
    }
    const wanted = plain.step()
    const got = step.replay()
    if (i % every === 0) {
      results.push(await read(got))
      expect(results.at(-1), `step ${i}`).toEqual(await read(wanted))
    }
    for (const t of wanted) t.dispose()
  }
  const after = await stateOf(captured)
  expect(after).toEqual(await stateOf(plain))
  expect(after).not.toEqual(before)
  return results
}
