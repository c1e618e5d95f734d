// A tensor as the interpreter has it: a view of a store of numbers. Each element is void or not: a
// set of the faults that it depends on, as bits.

import type { DType } from '../../../../lib/index.js'
import { exactly, halfNoise, type Noise, type Samples, sampleCount } from './samples.js'

class Store {
  readonly samples: Float64Array[]
  readonly faults: Int32Array
  /** The elements of each write, in order. */
  readonly writes: { begin: number; end: number }[] = []

  constructor(
    readonly dtype: DType,
    size: number,
  ) {
    this.samples = Array.from({ length: sampleCount }, () => new Float64Array(size))
    this.faults = new Int32Array(size)
  }
}

const scratch = new DataView(new ArrayBuffer(4))

/** Nearest bfloat16, ties to even. */
function toBfloat16(x: number): number {
  scratch.setFloat32(0, x)
  const bits = scratch.getUint32(0)
  scratch.setUint32(0, ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) << 16)
  return scratch.getFloat32(0)
}

/** Nearest float16, ties to even. */
function toFloat16(x: number): number {
  const a = Math.abs(x)
  if (!(a < 65520)) return x * Infinity
  const exponent = Math.max(-14, Math.floor(Math.log2(a)))
  const unit = 2 ** (exponent - 10)
  const scaled = x / unit
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0)
  return (floor + (up ? 1 : 0)) * unit
}

export class ModelTensor {
  private constructor(
    readonly store: Store,
    readonly offset: number,
    readonly shape: readonly number[],
  ) {}

  static make(shape: readonly number[], dtype: DType): ModelTensor {
    return new ModelTensor(new Store(dtype, count(shape)), 0, shape)
  }

  get dtype(): DType {
    return this.store.dtype
  }

  get size(): number {
    return count(this.shape)
  }

  /** Elements `[begin, begin + count(shape))`, in the same memory. */
  view(begin: number, shape: readonly number[]): ModelTensor {
    return new ModelTensor(this.store, this.offset + begin, shape)
  }

  overlaps(other: ModelTensor): boolean {
    const apart =
      this.offset + this.size <= other.offset || other.offset + other.size <= this.offset
    return this.store === other.store && !apart && this.size > 0 && other.size > 0
  }

  covers(other: ModelTensor): boolean {
    return this.store === other.store && this.offset === other.offset && this.size === other.size
  }

  /** A copy of the numbers. */
  get samples(): Samples {
    return this.store.samples.map((s) => s.slice(this.offset, this.offset + this.size))
  }

  /** The faults that any element depends on. */
  get faults(): number {
    let bits = 0
    for (let i = 0; i < this.size; i++) bits |= this.store.faults[this.offset + i]!
    return bits
  }

  /** How often the memory was written. */
  get writes(): number {
    return this.store.writes.length
  }

  /** Whether these elements were written since `writes` was that. */
  writtenSince(writes: number): boolean {
    const end = this.offset + this.size
    return this.store.writes.slice(writes).some((w) => w.begin < end && this.offset < w.end)
  }

  /** All elements become `samples`, rounded to the dtype; or void of `faults`. */
  overwrite(samples: Samples, faults: number, noise: Noise): void {
    this.store.faults.fill(faults, this.offset, this.offset + this.size)
    this.#write()
    if (faults === 0) this.#set(samples, noise)
  }

  /** As overwrite, but with faults it keeps what it is. */
  update(samples: Samples, faults: number, noise: Noise): void {
    this.#write()
    if ((faults | this.faults) === 0) this.#set(samples, noise)
  }

  #write(): void {
    this.store.writes.push({ begin: this.offset, end: this.offset + this.size })
  }

  #set(samples: Samples, noise: Noise): void {
    const { dtype } = this.store
    const round = dtype === 'bfloat16' ? toBfloat16 : dtype === 'float16' ? toFloat16 : undefined
    const half = dtype === 'bfloat16' || dtype === 'float16' ? halfNoise[dtype] : 0
    for (let s = 0; s < sampleCount; s++)
      for (let i = 0; i < this.size; i++) {
        const v = samples[s]![i]!
        const rounded = round === undefined ? v : s === 0 ? round(v) : v * (1 + half * noise.next())
        this.store.samples[s]![this.offset + i] = rounded
      }
  }

  /** Sets numbers that are exactly those of the dtype. */
  setExactly(values: ArrayLike<number>): this {
    for (const [s, sample] of exactly(values).entries())
      this.store.samples[s]!.set(sample, this.offset)
    this.store.faults.fill(0, this.offset, this.offset + this.size)
    return this
  }
}

export function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}
