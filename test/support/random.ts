import type { Device, DType, Tensor } from '../../lib/index.js'

/** Float32 numbers in [-1, 1) on the host, from a seed. */
export function uniform(count: number, seed: number): Float32Array {
  let s = (seed + 1) * 0x9e3779b9
  return Float32Array.from({ length: count }, () => {
    s = Math.imul(s ^ (s >>> 15), 0x2c1b3c6d) + 0x6d2b79f5
    let t = Math.imul(s ^ (s >>> 13), 0x297a2d39)
    t ^= t >>> 16
    return (t >>> 0) / 2 ** 31 - 1
  })
}

/** Integers in [low, high). */
export function integers(count: number, low: number, high: number, seed: number): Int32Array {
  return Int32Array.from(
    uniform(count, seed),
    (u) => low + Math.min(high - low - 1, Math.floor(((u + 1) / 2) * (high - low))),
  )
}

/** A tensor of such numbers, and the numbers. */
export function randomTensor(
  device: Device,
  shape: readonly number[],
  seed: number,
): { tensor: Tensor; data: Float32Array } {
  const data = uniform(
    shape.reduce((a, b) => a * b, 1),
    seed,
  )
  return { tensor: device.tensor(data, shape), data }
}

/** A tensor of a dtype, and the very numbers that it holds. */
export async function randomTensorOf(
  device: Device,
  shape: readonly number[],
  seed: number,
  dtype: DType,
): Promise<{ tensor: Tensor; data: Float32Array }> {
  if (dtype === 'int8') {
    const size = shape.reduce((a, b) => a * b, 1)
    const data = Int8Array.from(integers(size, -128, 128, seed))
    return { tensor: device.tensor(data, shape), data: Float32Array.from(data) }
  }
  const tensor = randomTensor(device, shape, seed).tensor.to(dtype)
  return { tensor, data: await tensor.to('float32').data() }
}
