import type { Device } from './device.js'
import { fail } from './errors.js'
import { checkChoice } from './options.js'

/**
 * The type of the operands of matrix products, whose sums are float32; parameters and results stay
 * as they are. Operands are rounded where they are multiplied.
 *
 * - `'float32'`: not rounded.
 * - `'bfloat16'`: 8 bits of mantissa, to nearest even.
 * - `'tf32'`: the tensor cores' TF32, 11 bits of mantissa, ties away from zero; on CUDA alone.
 */
export type Compute = 'float32' | 'bfloat16' | 'tf32'

// In the order of native/core/compute.h.
const all = ['float32', 'bfloat16', 'tf32'] as const satisfies readonly Compute[]

/**
 * Checks the option `compute` of an operation, a layer or a model. Default 'float32'.
 * @throws ERR_VALUE; ERR_UNSUPPORTED for what the device does not compute
 */
export function checkCompute(where: string, device: Device, value: unknown): Compute {
  const compute = checkChoice(where, 'compute', value, all)
  if (compute === 'tf32' && device.kind === 'cpu') {
    const requirement = `be 'float32' or 'bfloat16' on a device of kind '${device.kind}'`
    fail('ERR_UNSUPPORTED', where, 'compute', requirement, `'${compute}'`, 'TF32 is CUDA only.')
  }
  return compute
}

/** The option's number in the binding, checked. */
export function computeCode(where: string, device: Device, value: unknown): number {
  return all.indexOf(checkCompute(where, device, value))
}
