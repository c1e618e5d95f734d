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
 * The gate of Memory+ (Berges et al. 2024, section 2): `z = y * silu(a)`,
 * `silu(a) = a * sigmoid(a)`. `out` may be y or a.
 * @param y `[R, V]` float32
 * @param a `[R, V]` float32
 * @returns `[R, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function siluGate(y: Tensor, a: Tensor, options?: OutOptions): Tensor<'float32'> {
  const checked = checkOptions('siluGate', options, ['out'])
  const forward = () => {
    const { handles, device, out } = checkTensors('siluGate', { y, a }, checked.out)
    return resultTensor(device, native.siluGate(out, handles.y, handles.a), checked.out)
  }
  return recorded('siluGate', { y, a }, checked.out, forward, () => ({
    saved: { y, a },
    backward: (dz) => {
      const { dy, da } = siluGateBackward(dz, y, a)
      return { y: dy, a: da }
    },
  }))
}

/**
 * Gradients of {@link siluGate}. `out.dy` and `out.da` may be dz, y or a.
 * @param dz `[R, V]` float32
 * @returns dy and da, each `[R, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function siluGateBackward(
  dz: Tensor,
  y: Tensor,
  a: Tensor,
  options?: Outputs<'dy' | 'da'>,
): { dy: Tensor<'float32'>; da: Tensor<'float32'> } {
  const where = 'siluGateBackward'
  const { out } = checkOptions(where, options, ['out'])
  const { handles, device } = checkTensors(where, { dz, y, a })
  const outputs = outputHandles(where, out, device, ['dy', 'da'])
  const gradients = native.siluGateBackward(
    outputs.dy,
    outputs.da,
    handles.dz,
    handles.y,
    handles.a,
  )
  return resultTensors(device, gradients, out)
}
