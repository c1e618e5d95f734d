import type { Device } from './device.js'
import { isTypedArray, type TypedArray } from './dtype.js'
import { fail } from './errors.js'
import { Tensor } from './tensor.js'

/**
 * Input or gradient of a layer: a tensor `[tokens, width]` or `[batch, time, width]`, or numbers as
 * rows of that width.
 */
export type LayerInput = Tensor | TypedArray | readonly number[]

/**
 * @internal The input of a layer as a tensor; numbers are rows of `width`. A tensor made here is
 * `temporary`, and the caller disposes it.
 */
export function toInputTensor(
  where: string,
  name: string,
  x: LayerInput,
  device: Device,
  width: number,
): { tensor: Tensor; temporary?: Tensor } {
  if (x instanceof Tensor) return { tensor: x }
  if (!isTypedArray(x) && !Array.isArray(x)) {
    const requirement = 'be a Tensor, a typed array or an array of numbers'
    fail('ERR_DTYPE', where, name, requirement, x, 'Make a tensor with device.tensor(data, shape).')
  }
  if (x.length % width !== 0) {
    const hint = `They are taken as rows [tokens, ${width}].`
    fail('ERR_SHAPE', where, name, `have a multiple of ${width} elements`, x.length, hint)
  }
  const temporary = device.tensor(x, [x.length / width, width], 'float32')
  return { tensor: temporary, temporary }
}
