import { native, type TensorHandle } from './binding.js'

/** A new handle, when `fill` has filled it; else it is disposed. */
export function filled(handle: TensorHandle, fill: () => void): TensorHandle {
  try {
    fill()
    return handle
  } catch (error) {
    native.tensorDispose(handle)
    throw error
  }
}
