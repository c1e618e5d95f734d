import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/**
 * Softmax over the last axis; `out` may be x.
 * @param x `[..., n]` float32
 * @returns `[..., n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function softmax(x: Tensor, options?: OutOptions): Tensor<'float32'> {
  const checked = checkOptions('softmax', options, ['out'])
  const forward = () => {
    const { handles, device, out } = checkTensors('softmax', { x }, checked.out)
    return resultTensor(device, native.softmax(out, handles.x), checked.out)
  }
  return recorded('softmax', { x }, checked.out, forward, (y) => ({
    saved: { y },
    backward: (dy) => ({ x: softmaxBackward(dy, y) }),
  }))
}

/**
 * Gradient of {@link softmax} from its output y: `dx = y * (dy - sum(y * dy))`. `out` may be
 * dy or y.
 * @param dy `[..., n]` float32
 * @param y `[..., n]` float32
 * @returns `[..., n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function softmaxBackward(dy: Tensor, y: Tensor, options?: OutOptions): Tensor<'float32'> {
  const checked = checkOptions('softmaxBackward', options, ['out'])
  const { handles, device, out } = checkTensors('softmaxBackward', { dy, y }, checked.out)
  return resultTensor(device, native.softmaxBackward(out, handles.dy, handles.y), checked.out)
}
