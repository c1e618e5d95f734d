// Inputs from seeds: tables, indices, vectors. The same numbers go to every contender.

import type { Distribution, TableDType } from './shapes.js'

/** Fills with numbers in [-scale, scale), in place: a table may have a quarter of a billion. */
function fillUniform<A extends Float32Array | Int8Array>(target: A, seed: number, scale = 1): A {
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

/** Sampled row indices: uniform, or Zipf with exponent 1, its frequent rows all over the table. */
export function sampleIndices(
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
    const target = ((x + 1) / 2) * total
    let low = 0
    let high = slots - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (cumulative[middle]! > target) high = middle
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

// A stride that visits every slot once: near the golden ratio, and coprime to the number of slots.
function coprime(slots: number): number {
  const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
  let stride = Math.max(1, Math.floor(slots * 0.618))
  while (gcd(stride, slots) !== 1) stride++
  return stride
}

/** A table on the host. float16 and bfloat16 are bits; int8 has a scale for each row. */
export interface HostTable {
  key: string
  slots: number
  dim: number
  dtype: TableDType
  data: Float32Array | Uint16Array | Int8Array
  scales?: Float32Array
}

const bytesOf: Record<TableDType, number> = { float32: 4, float16: 2, bfloat16: 2, int8: 1 }
export const rowBytesOf = ({ dim, dtype }: HostTable): number => dim * bytesOf[dtype]

/** The listed rows of a table as numbers, one after another. */
export function decodedRows({ data, dtype, scales, dim }: HostTable, rows: Int32Array) {
  const values = dtype === 'float32' || dtype === 'int8' ? undefined : halfValues(dtype)
  const out = new Float64Array(rows.length * dim)
  for (const [i, row] of rows.entries()) {
    const scale = scales?.[row] ?? 1
    for (let c = 0; c < dim; c++) {
      const x = data[row * dim + c]!
      out[i * dim + c] = scale * (values ? values[x]! : x)
    }
  }
  return out
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

/** Turns float32 numbers into the bits of a 16-bit dtype. */
type Round = (x: Float32Array, dtype: 'float16' | 'bfloat16') => Promise<Uint16Array>

/** A table of uniform numbers. */
export async function makeTable(
  slots: number,
  dim: number,
  dtype: TableDType,
  round: Round,
): Promise<HostTable> {
  const table = { key: `${slots}x${dim}/${dtype}`, slots, dim, dtype }
  if (dtype === 'int8') {
    const scales = uniform(slots, 7).map((s) => (1 + 0.5 * s) / 127)
    return { ...table, data: fillUniform(new Int8Array(slots * dim), 3, 127), scales }
  }
  const exact = uniform(slots * dim, 3)
  return { ...table, data: dtype === 'float32' ? exact : await round(exact, dtype) }
}

/** Makes tables, and keeps the last one. */
export function tableCache(round: Round) {
  let last: HostTable | undefined
  return async (slots: number, dim: number, dtype: TableDType): Promise<HostTable> => {
    if (last?.slots !== slots || last.dim !== dim || last.dtype !== dtype) {
      last = undefined // before the next one is allocated
      last = await makeTable(slots, dim, dtype, round)
    }
    return last
  }
}
