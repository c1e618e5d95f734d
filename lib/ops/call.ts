// What the operations have in common: outputs that are given or made, and the checks of their
// tensors.

import { native, type TensorHandle } from '../binding.js'
import type { Device } from '../device.js'
import { options } from '../options.js'
import { handles, optionalHandle, Tensor } from '../tensor.js'

/** `out`: a tensor of the result's shape and dtype to write into, instead of a new one. */
export interface OutOptions {
  /** A tensor of the result's shape and dtype. */
  out?: Tensor
}

/** @internal A result for the caller: `out`, if it was given. */
export function wrap(device: Device, handle: TensorHandle, out?: Tensor): Tensor {
  if (!out) return new Tensor(device, handle)
  native.tensorDispose(handle) // `out` has its own handle on the same memory
  return out
}

/** `out` of an operation with several results: any of them may be given. */
export type Outputs<Name extends string> = { out?: Partial<Record<Name, Tensor>> }

/** @internal Handles of the outputs that were given, in the order of `names`. */
export function outputs<Name extends string>(
  where: string,
  given: Outputs<Name>['out'],
  device: Device,
  ...names: Name[]
): (TensorHandle | undefined)[] {
  const out = options(`${where}: out`, given, names) as Partial<Record<Name, Tensor>>
  return names.map((name) => optionalHandle(where, `out.${name}`, out[name], device))
}

/** @internal The tensors of a call, checked, and `out` as native code takes it. */
export function prepare(where: string, tensors: Record<string, Tensor>, given?: OutOptions) {
  const list = handles(where, tensors)
  const device = Object.values(tensors)[0]!.device
  return { list, device, out: optionalHandle(where, 'out', given?.out, device) }
}
