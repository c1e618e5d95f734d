import { disposeOnError } from '../atomically.js'
import { recorded } from '../autograd/record.js'
import { checkAxis } from '../axes.js'
import { native, type TensorHandle } from '../binding.js'
import type { DType } from '../dtype.js'
import { fail, isArray } from '../errors.js'
import { checkInteger, checkOptions } from '../options.js'
import { optionalTensorHandle, Tensor, tensorHandle } from '../tensor.js'
import { type OutOptions, resultTensor } from './call.js'

/**
 * Tensors one after the other along an axis.
 * @param tensors one or more `[..., size, ...]` of one dtype, the same but for that axis
 * @param axis negative: from the last
 * @returns `[..., sum of the sizes, ...]` of their dtype
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for no tensors or another axis
 */
export function concat<D extends DType>(
  tensors: readonly Tensor<D>[],
  axis: number,
  options?: OutOptions,
): Tensor<D> {
  const where = 'concat'
  const checked = checkOptions(where, options, ['out'])
  if (!isArray(tensors))
    fail('ERR_VALUE', where, 'tensors', 'be an array of one or more tensors', tensors)
  const handles: TensorHandle[] = []
  const inputs: Record<string, Tensor<D>> = {}
  let first: Tensor<D> | undefined
  for (let i = 0; i < tensors.length; i++) {
    const [name, tensor] = [`tensors[${i}]`, tensors[i] as Tensor<D>]
    handles.push(tensorHandle(where, name, tensor, first?.device))
    inputs[name] = tensor
    first ??= tensor
  }
  if (!first) fail('ERR_VALUE', where, 'tensors', 'be an array of one or more tensors', '[]')
  const at = checkAxis(where, 'axis', axis, first.shape.length)
  const { device } = first
  const out = optionalTensorHandle(where, 'out', checked.out, device)
  const forward = () => resultTensor(device, native.concat(out, handles, at), checked.out)
  const sizes = Object.values(inputs).map(({ shape }) => shape[at]!)
  return recorded<string, Tensor>(where, inputs, checked.out, forward, () => ({
    saved: {},
    backward: (dy) => {
      const parts = concatBackward(dy, at, sizes)
      return Object.fromEntries(Object.keys(inputs).map((name, i) => [name, parts[i]]))
    },
  })) as Tensor<D>
}

/**
 * Gradients of {@link concat}: the slices of dy.
 * @param dy of the shape of the result
 * @param sizes of the tensors on the axis
 * @returns `[..., size, ...]` for each tensor, of the dtype of dy
 * @throws ERR_SHAPE, ERR_VALUE for sizes that do not sum to that of dy
 */
export function concatBackward<D extends DType>(
  dy: Tensor<D>,
  axis: number,
  sizes: readonly number[],
): Tensor<D>[] {
  const where = 'concatBackward'
  tensorHandle(where, 'dy', dy)
  const at = checkAxis(where, 'axis', axis, dy.shape.length)
  if (!isArray(sizes)) fail('ERR_VALUE', where, 'sizes', 'be an array of sizes', sizes)
  const parts: number[] = []
  let total = 0
  for (let i = 0; i < sizes.length; i++) {
    parts.push(checkInteger(where, `sizes[${i}]`, sizes[i], 0, dy.shape[at]))
    total += parts[i]!
  }
  if (total !== dy.shape[at])
    fail('ERR_VALUE', where, 'sizes', `sum to ${dy.shape[at]}, the size of axis ${at}`, total)
  return disposeOnError(() => {
    const begin = dy.shape.map(() => 0)
    return parts.map((size) => {
      const part = dy.shape.map((length, a) => (a === at ? size : length))
      const gradient = native.slice(undefined, dy.handle(where, 'dy'), begin, part)
      begin[at]! += size
      return new Tensor<D>(dy.device, gradient)
    })
  })
}
