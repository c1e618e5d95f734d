// New tensors: of the user's numbers, or of one number.

import { disposeOnError } from './atomically.js'
import { native } from './binding.js'
import type { Device } from './device.js'
import { type DType, dtypeCode } from './dtype.js'
import { defaultDType, encodeNumbers, type Numbers } from './encode.js'
import { fail } from './errors.js'
import { checkShape, countElements, formatShape } from './shape.js'
import { Tensor } from './tensor.js'
import { upload } from './upload.js'

/**
 * A tensor of numbers that the user gave as `argument`. The dtype defaults to the data's own, the
 * shape to one axis.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OUT_OF_MEMORY
 */
export function tensorOf<D extends DType>(
  where: string,
  argument: string,
  numbers: Numbers,
  device: Device,
  shape: readonly number[] = [numbers.length],
  dtype: DType = defaultDType(numbers),
): Tensor<D> {
  const code = dtypeCode(where, dtype)
  if (countElements(shape) !== numbers.length) {
    const requirement = `have ${numbers.length} elements as the data has`
    fail('ERR_SHAPE', where, 'shape', requirement, formatShape(shape))
  }
  const encoded = encodeNumbers(where, argument, numbers, dtype)
  const exact = upload(where, device, encoded, shape)
  if (encoded.dtype === dtype) return new Tensor(device, exact)
  try {
    const handle = native.tensorEmpty(device.handle, shape, code, where)
    return disposeOnError(() => {
      const rounded = new Tensor<D>(device, handle)
      native.tensorCopy(handle, exact)
      return rounded
    })
  } finally {
    native.tensorDispose(exact)
  }
}

/** A float32 tensor whose elements are all the same. @throws ERR_SHAPE, ERR_OUT_OF_MEMORY */
export function constantTensor(
  where: string,
  device: Device,
  shape: readonly number[],
  value: number,
): Tensor<'float32'> {
  const sizes = checkShape(where, shape)
  const handle = native.tensorEmpty(device.handle, sizes, dtypeCode(where, 'float32'), where)
  return disposeOnError(() => {
    const constant = new Tensor<'float32'>(device, handle)
    native.tensorFill(handle, value)
    return constant
  })
}
