import type { Compute, Device, Tensor } from '../../lib/index.js'

/** What products round their operands to on a device. */
export function roundingComputes({ kind }: Device): Exclude<Compute, 'float32'>[] {
  return kind === 'cpu' ? ['bfloat16'] : ['bfloat16', 'tf32']
}

/** The numbers of a tensor, each rounded as a product of this type rounds it. */
export async function rounded(compute: Compute, tensor: Tensor): Promise<Float32Array> {
  if (compute === 'bfloat16') return tensor.to('bfloat16').to('float32').data()
  const numbers = await tensor.to('float32').data()
  return compute === 'tf32' ? numbers.map(toTf32) : numbers
}

/** 10 bits of mantissa behind the point, to nearest, ties away from zero. */
function toTf32(x: number): number {
  if (!Number.isFinite(x) || x === 0) return x
  const ulp = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), -126) - 10)
  return Math.sign(x) * Math.floor(Math.abs(x) / ulp + 0.5) * ulp
}
