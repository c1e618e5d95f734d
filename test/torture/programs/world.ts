// What a program works on: each object of the package beside its twin in the interpreter. Steps
// choose objects by numbers, so that any list of steps is a program, and a shorter one too.

import { type Device, MemoryLayersError, type Tensor } from '../../../lib/index.js'
import { Difference } from './difference.js'
import { Faults } from './faults.js'
import { Noise, type Samples, tolerance } from './model/samples.js'
import type { ModelTensor } from './model/tensor.js'

/** A tensor and its twin. */
export interface Pair {
  real: Tensor
  model: ModelTensor
}

/** Sizes of a program's objects. */
export interface Profile {
  /** Rows at most. */
  T: number
  /** Width of matrices and of layers. */
  C: number
  /** Half-keys, heads, neighbours, half-key width. */
  n: number
  H: number
  k: number
  d: number
  V: number
  seed: number
}

/** The choices of one step. */
export class Picks {
  #next = 0

  constructor(readonly numbers: readonly number[]) {}

  /** An integer in [0, n). */
  below(n: number): number {
    return (this.numbers[this.#next++ % this.numbers.length] ?? 0) % n
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  /** A number in [-1, 1]. */
  number(): number {
    return this.below(2001) / 1000 - 1
  }
}

export class World {
  readonly faults = new Faults()
  readonly noise: Noise
  readonly tensors: Pair[] = []
  /** Rejections and values that are on their way. */
  readonly #pending: Promise<void>[] = []
  compared = 0

  constructor(
    readonly device: Device,
    readonly other: Device,
    readonly profile: Profile,
    /** No other program runs on the device: what synchronize() reports is this one's. */
    readonly alone: boolean,
  ) {
    this.noise = new Noise(profile.seed + 1)
  }

  add(real: Tensor, model: ModelTensor): Pair {
    const pair = { real, model }
    this.tensors.push(pair)
    return pair
  }

  /** Reads a tensor: its numbers, or the error of a fault that it depends on. */
  read(name: string, { real, model }: Pair): Promise<void> {
    const { samples, faults, dtype } = model
    const read = this.expectFaults(name, real.data(), faults).then((data) => {
      if (data !== undefined) this.compare(name, data, samples, dtype)
    })
    read.catch(() => {}) // awaited later
    this.#pending.push(read)
    return read
  }

  /** The value of a promise; undefined where it had to reject, and did. */
  async expectFaults<T>(name: string, promise: Promise<T>, faults: number): Promise<T | undefined> {
    try {
      const value = await promise
      if (faults === 0) return value
    } catch (error) {
      this.faults.expect(name, error, faults)
      return undefined
    }
    throw new Difference(`${name} can be read, but depends on ${this.faults.describe(faults)}`)
  }

  compare(name: string, got: ArrayLike<number>, wanted: Samples, dtype = 'float32'): void {
    const ulp = dtype === 'bfloat16' ? 2 ** -7 : dtype === 'float16' ? 2 ** -10 : 0
    const exact = wanted[0]!
    if (got.length !== exact.length)
      throw new Difference(`${name} has ${got.length} numbers, wanted ${exact.length}`)
    for (let i = 0; i < exact.length; i++) {
      const [g, w] = [got[i]!, exact[i]!]
      const near = tolerance(wanted, i) + ulp * Math.abs(w) + (ulp ? 2 ** -24 : 0)
      const same = g === w || Math.abs(g - w) <= near || !Number.isFinite(near)
      if (!same) throw new Difference(`${name}[${i}] is ${g}, wanted ${w} within ${near}`)
      this.compared++
    }
  }

  /** A call that must throw this code and change nothing. */
  expectCode(name: string, code: string, call: () => unknown): void {
    try {
      call()
    } catch (error) {
      if (error instanceof MemoryLayersError && error.code === code) return
      throw new Difference(`${name} throws ${error}, wanted ${code}`)
    }
    throw new Difference(`${name} throws nothing, wanted ${code}`)
  }

  /** Waits for every read so far. */
  async settle(): Promise<void> {
    while (this.#pending.length > 0) await this.#pending.shift()
  }

  get pending(): number {
    return this.#pending.length
  }
}
