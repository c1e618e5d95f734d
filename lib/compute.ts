import type { Device } from './device.js'
import { fail } from './errors.js'
import { checkChoice } from './options.js'

/** The number type of matrix products: that of their operands; sums are float32. */
export type Compute = 'float32' | 'bfloat16' | 'tf32'

/**
 * Checks the option `compute` of a layer or model.
 * @throws ERR_VALUE; ERR_UNSUPPORTED for a type that products are not computed in
 */
export function checkCompute(where: string, device: Device, value: unknown): Compute {
  const compute = checkChoice(where, 'compute', value, ['float32', 'bfloat16', 'tf32'])
  if (compute !== 'float32')
    fail('ERR_UNSUPPORTED', where, 'compute', `be 'float32' on ${device.kind}`, `'${compute}'`)
  return compute
}
