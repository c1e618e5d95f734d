// The faults that a program has caused. Each has an index of its own that lies outside every table,
// so that an error says which fault it reports.

import { MemoryLayersError } from '../../../lib/index.js'
import { Difference } from './difference.js'

const firstValue = 1000
// A fault is a bit of an int32.
const maxFaults = 30

export class Faults {
  /** By bit: the index, and whether an error has reported it. */
  readonly #all: { value: number; reported: boolean }[] = []
  #values = firstValue

  /** An index for a new tensor that is to cause faults. */
  newValue(): number {
    return this.#values++
  }

  get full(): boolean {
    return this.#all.length >= maxFaults
  }

  /** Work has met this index: the bit of a new fault. */
  add(value: number): number {
    this.#all.push({ value, reported: false })
    return 1 << (this.#all.length - 1)
  }

  /** The values that name faults among these bits. */
  #of(bits: number) {
    return this.#all.filter((_, i) => bits & (1 << i))
  }

  describe(bits: number): string {
    return `the fault of index ${this.#of(bits)
      .map((f) => f.value)
      .join(' or ')}`
  }

  /** Throws unless the error reports one of these faults. */
  expect(name: string, error: unknown, bits: number): void {
    const known = error instanceof MemoryLayersError && error.code === 'ERR_INDEX_RANGE'
    const found = known
      ? this.#of(bits).find((f) => new RegExp(` is ${f.value}\\b`).test(error.message))
      : undefined
    if (!found) {
      const wanted = bits ? this.describe(bits) : 'no fault'
      throw new Difference(`${name}: wanted ${wanted}, got ${error}`)
    }
    found.reported = true
  }

  /** The bit of the earliest fault that no error has reported; 0: none. */
  get unreported(): number {
    const first = this.#all.findIndex((f) => !f.reported)
    return first < 0 ? 0 : 1 << first
  }
}
