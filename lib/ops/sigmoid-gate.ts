import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import {
  checkTensors,
  type OutOptions,
  type Outputs,
  outputHandles,
  resultTensor,
  resultTensors,
} from './call.js'

/**
 * One gate for each row: `out[r, :] = y[r, :] * sigmoid(g[r])`; `out` may be y.
 * @param y `[R, V]` float32
 * @param g `[R, 1]` float32
 * @returns `[R, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function sigmoidGate(y: Tensor, g: Tensor, options?: OutOptions): Tensor<'float32'> {
  const checked = checkOptions('sigmoidGate', options, ['out'])
  const forward = () => {
    const { handles, device, out } = checkTensors('sigmoidGate', { y, g }, checked.out)
    return resultTensor(device, native.sigmoidGate(out, handles.y, handles.g), checked.out)
  }
  return recorded('sigmoidGate', { y, g }, checked.out, forward, () => ({
    saved: { y, g },
    backward: (dOut) => {
      const { dy, dg } = sigmoidGateBackward(dOut, y, g)
      return { y: dy, g: dg }
    },
  }))
}

/**
 * Gradients of {@link sigmoidGate}. `out.dy` may be dOut or y.
 * @param dOut `[R, V]` float32
 * @returns dy `[R, V]` and dg `[R, 1]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function sigmoidGateBackward(
  dOut: Tensor,
  y: Tensor,
  g: Tensor,
  options?: Outputs<'dy' | 'dg'>,
): { dy: Tensor<'float32'>; dg: Tensor<'float32'> } {
  const where = 'sigmoidGateBackward'
  const { out } = checkOptions(where, options, ['out'])
  const { handles, device } = checkTensors(where, { dOut, y, g })
  const outputs = outputHandles(where, out, device, ['dy', 'dg'])
  const gradients = native.sigmoidGateBackward(
    outputs.dy,
    outputs.dg,
    handles.dOut,
    handles.y,
    handles.g,
  )
  return resultTensors(device, gradients, out)
}
