// Tensors as arguments of a call.

import type { TensorHandle } from './binding.js'
import type { Device } from './device.js'
import { failMismatch } from './device-mismatch.js'
import { fail } from './errors.js'
import type { Tensor } from './tensor.js'
import { TensorMemory } from './tensor-memory.js'

/** The native handle of an argument: a tensor, alive, and on `device` if one is given. */
export function tensorHandle(
  where: string,
  name: string,
  tensor: Tensor,
  device?: Device,
): TensorHandle {
  if (!TensorMemory.isTensor(tensor)) {
    const hint = 'Make one with device.tensor(data, shape).'
    fail('ERR_DTYPE', where, name, 'be a Tensor', tensor, hint)
  }
  const handle = tensor.handle(where, name)
  if (device && tensor.device !== device) failMismatch(where, name, device, tensor.device)
  return handle
}

/** {@link tensorHandle} of an argument that may be left out. */
export function optionalTensorHandle(
  where: string,
  name: string,
  tensor: Tensor | undefined,
  device: Device,
): TensorHandle | undefined {
  return tensor === undefined ? undefined : tensorHandle(where, name, tensor, device)
}
