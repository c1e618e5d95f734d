import type { Device } from './device.js'
import { isNumericData, type NumericData, readNumbers } from './encode.js'
import { fail } from './errors.js'
import { tensorOf } from './new-tensor.js'
import { Tensor } from './tensor.js'

/**
 * Input or gradient of a layer: a tensor `[tokens, width]` or `[batch, time, width]`, or numbers as
 * rows of that width.
 */
export type LayerInput = Tensor | NumericData

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
  if (Tensor.is(x)) return { tensor: x }
  if (!isNumericData(x)) {
    const requirement = 'be a Tensor, a typed array or an array of numbers'
    fail('ERR_DTYPE', where, name, requirement, x, 'Make a tensor with device.tensor(data, shape).')
  }
  const numbers = readNumbers(where, name, x)
  if (numbers.length % width !== 0) {
    const hint = `They are taken as rows [tokens, ${width}].`
    fail('ERR_SHAPE', where, name, `have a multiple of ${width} elements`, numbers.length, hint)
  }
  const shape = [numbers.length / width, width]
  const temporary = tensorOf(where, name, numbers, device, shape, 'float32')
  return { tensor: temporary, temporary }
}
