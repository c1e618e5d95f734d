import { native, type TensorHandle } from './binding.js'
import { refuseInCapture } from './capturing.js'
import type { Device } from './device.js'
import { dtypeCode } from './dtype.js'
import type { Encoded } from './encode.js'

/** A new tensor's handle, of the dtype that the elements have. */
export function upload(
  where: string,
  device: Device,
  { elements, dtype }: Encoded,
  shape: readonly number[],
): TensorHandle {
  refuseInCapture(where, device)
  return native.tensorFrom(device.handle, elements, shape, dtypeCode(where, dtype))
}
