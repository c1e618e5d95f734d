// What every operation does around its native call: check its tensors, pass on `out`, and make
// tensors of the results.

import { native, type TensorHandle } from '../binding.js'
import type { Device } from '../device.js'
import { checkBoolean, checkOptions } from '../options.js'
import { optionalTensorHandle, Tensor, tensorHandle } from '../tensor.js'

/** `out`: a tensor of the result's shape and dtype to write into, instead of a new one. */
export interface OutOptions {
  /**
   * A tensor of the result's shape and dtype. Where an operation says so it may be one of the
   * inputs, as a whole; any other overlap with an input or another result is ERR_VALUE.
   */
  out?: Tensor
}

/**
 * `out` of an operation with several results: any of them may be given, as {@link OutOptions} says.
 */
export type Outputs<Name extends string> = { out?: Partial<Record<Name, Tensor>> }

/**
 * @internal Checks that the arguments are tensors, alive, and on one device. Returns their native
 * handles by name, the device, and the handle of `out`.
 */
export function checkTensors<Name extends string>(
  where: string,
  tensors: Record<Name, Tensor>,
  out?: Tensor,
): { handles: Record<Name, TensorHandle>; device: Device; out: TensorHandle | undefined } {
  const handles: Partial<Record<Name, TensorHandle>> = {}
  let device: Device | undefined
  for (const name in tensors) {
    handles[name] = tensorHandle(where, name, tensors[name], device)
    device ??= tensors[name].device
  }
  const common = device as Device
  return {
    handles: handles as Record<Name, TensorHandle>,
    device: common,
    out: optionalTensorHandle(where, 'out', out, common),
  }
}

/** @internal The native handles of those outputs that the caller gave. */
export function outputHandles<Name extends string>(
  where: string,
  out: Outputs<Name>['out'],
  device: Device,
  names: readonly Name[],
): Partial<Record<Name, TensorHandle>> {
  const given: Partial<Record<Name, Tensor>> = checkOptions(`${where}: out`, out, names)
  const handles: Partial<Record<Name, TensorHandle>> = {}
  for (const name of names)
    handles[name] = optionalTensorHandle(where, `out.${name}`, given[name], device)
  return handles
}

/**
 * @internal The options of a backward of x, a weight and a bias: which gradients to compute, and
 * what those of the parameters are added to. In the order in which native calls take them.
 */
export function neededGradients(
  where: string,
  options: { needs?: object; into?: object },
  device: Device,
  weight: 'weight' | 'weights',
  weightNeeded = true,
) {
  const needs: Named<unknown> = checkOptions(where, options.needs, ['x', weight, 'bias'], 'needs')
  const into: Named<Tensor> = checkOptions(where, options.into, [weight, 'bias'], 'into')
  const need = (name: string, standard = true) =>
    checkBoolean(where, `needs.${name}`, needs[name] ?? standard)
  const handle = (name: string) => optionalTensorHandle(where, `into.${name}`, into[name], device)
  const [ofWeight, ofBias] = [handle(weight), handle('bias')]
  const args = [need('x'), need(weight, weightNeeded), need('bias'), ofWeight, ofBias] as const
  return { args, intoWeight: into[weight], intoBias: into['bias'] }
}

type Named<T> = Partial<Record<string, T>>

/** @internal The tensor of a result: `out`, if the caller gave it. */
export function resultTensor(
  device: Device,
  handle: TensorHandle,
  out?: Tensor,
): Tensor<'float32'> {
  if (!out) return new Tensor(device, handle)
  native.tensorDispose(handle) // `out` has its own handle on the same memory
  return out as Tensor<'float32'>
}

/** Results are float32, but for indices. */
export type Results<Names extends string | number | symbol> = {
  [Name in Names]: Tensor<Name extends 'indices' ? 'int32' : 'float32'>
}

/** @internal {@link resultTensor} for each of several results; a result left out stays left out. */
export function resultTensors<Handles extends Record<string, TensorHandle | undefined>>(
  device: Device,
  handles: Handles,
  out: { [Name in keyof Handles]?: Tensor } = {},
): Results<keyof Handles> {
  const results: { [Name in keyof Handles]?: Tensor } = {}
  for (const name in handles) {
    const handle = handles[name]
    if (handle) results[name] = resultTensor(device, handle, out[name])
  }
  return results as Results<keyof Handles>
}
