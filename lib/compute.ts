import type { Device } from './device.js'
import { fail } from './errors.js'
import { checkChoice } from './options.js'

/**
 * The type of the operands of matrix products, whose sums are float32: 'bfloat16' rounds them to
 * nearest even where they are multiplied, so that parameters and results stay float32. 'tf32' is
 * computed on no device yet.
 */
export type Compute = 'float32' | 'bfloat16' | 'tf32'

// In the order of native/core/compute.h.
const computed = ['float32', 'bfloat16'] as const satisfies readonly Compute[]

/** What products are computed in. */
type Computed = (typeof computed)[number]

/**
 * Checks the option `compute` of an operation, a layer or a model. Default 'float32'.
 * @throws ERR_VALUE; ERR_UNSUPPORTED for a type that products are not computed in
 */
export function checkCompute(where: string, device: Device, value: unknown): Computed {
  const compute = checkChoice(where, 'compute', value, [...computed, 'tf32'])
  if (compute === 'tf32') {
    const requirement = `be 'float32' or 'bfloat16' on ${device.kind}`
    fail('ERR_UNSUPPORTED', where, 'compute', requirement, `'${compute}'`)
  }
  return compute
}

/** The option's number in the binding, checked. */
export function computeCode(where: string, device: Device, value: unknown): number {
  return computed.indexOf(checkCompute(where, device, value))
}
