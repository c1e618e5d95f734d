// Inputs from seeds: tables, indices, vectors. The same numbers go to every contender.

import type { Distribution, TableDType } from './shapes.js'

/** Floats in [-1, 1), written in place: a table may have a quarter of a billion. */
export function fillUniform<A extends Float32Array | Int8Array>(
  target: A,
  seed: number,
  scale = 1,
): A {
  let s = Math.imul(seed + 1, 0x9e3779b9)
  for (let i = 0; i < target.length; i++) {
    s = (s + 0x6d2b79f5) | 0
    let t = Math.imul(s ^ (s >>> 15), s | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    target[i] = ((t ^ (t >>> 14)) / 2 ** 31) * scale
  }
  return target
}

export const uniform = (count: number, seed: number, scale = 1) =>
  fillUniform(new Float32Array(count), seed, scale)

/**
 * Draws of row numbers: uniform, or Zipf with exponent 1 whose frequent rows lie scattered over the
 * table.
 */
export function drawRows(
  distribution: Distribution,
  count: number,
  slots: number,
  seed: number,
): Int32Array {
  const u = uniform(count, seed)
  if (distribution === 'uniform')
    return Int32Array.from(u, (x) => Math.min(slots - 1, Math.floor(((x + 1) / 2) * slots)))
  const cumulative = zipfOf(slots)
  const total = cumulative[slots - 1]!
  const stride = coprime(slots)
  return Int32Array.from(u, (x) => {
    const wanted = ((x + 1) / 2) * total
    let low = 0
    let high = slots - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (cumulative[middle]! > wanted) high = middle
      else low = middle + 1
    }
    return (low * stride) % slots
  })
}

let zipf = new Float64Array(0)
function zipfOf(slots: number): Float64Array {
  if (zipf.length !== slots) {
    let sum = 0
    zipf = Float64Array.from({ length: slots }, (_, rank) => {
      sum += 1 / (rank + 1)
      return sum
    })
  }
  return zipf
}

// A step that visits every slot once: near the golden ratio, and coprime to the number of slots.
function coprime(slots: number): number {
  const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
  let step = Math.max(1, Math.floor(slots * 0.618))
  while (gcd(step, slots) !== 1) step++
  return step
}

/** A table on the host. float16 and bfloat16 are bits; int8 has a factor for each row. */
export interface HostTable {
  key: string
  slots: number
  dim: number
  dtype: TableDType
  data: Float32Array | Uint16Array | Int8Array
  scales?: Float32Array
}

export const bytesOf: Record<TableDType, number> = { float32: 4, float16: 2, bfloat16: 2, int8: 1 }

/** One element of a table as a number. */
export function decoder(table: HostTable): (at: number) => number {
  const { data, dtype, scales, dim } = table
  if (dtype === 'float32') return (at) => data[at]!
  if (dtype === 'int8') return (at) => data[at]! * scales![Math.floor(at / dim)]!
  const values = halfValues(dtype)
  return (at) => values[data[at]!]!
}

function halfValues(dtype: TableDType): Float32Array {
  if (dtype === 'bfloat16')
    return new Float32Array(Uint32Array.from({ length: 65536 }, (_, bits) => bits << 16).buffer)
  return Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits >> 15 ? -1 : 1
    const exponent = (bits >> 10) & 31
    const fraction = bits & 1023
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
    return exponent === 0
      ? sign * fraction * 2 ** -24
      : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
  })
}

/** A table of uniform numbers; `round` turns float32 numbers into the bits of a 16-bit dtype. */
export function makeTable(
  slots: number,
  dim: number,
  dtype: TableDType,
  round: (x: Float32Array, dtype: 'float16' | 'bfloat16') => Uint16Array,
): HostTable {
  const key = `${slots}x${dim}/${dtype}`
  if (dtype === 'int8') {
    const scales = uniform(slots, 7).map((s) => (1 + 0.5 * s) / 127)
    return { key, slots, dim, dtype, data: fillUniform(new Int8Array(slots * dim), 3, 127), scales }
  }
  const exact = uniform(slots * dim, 3)
  return { key, slots, dim, dtype, data: dtype === 'float32' ? exact : round(exact, dtype) }
}
