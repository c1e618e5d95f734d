import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkFloat32, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/** Options of {@link add}. */
export interface AddOptions extends OutOptions {
  /** Factor of x, default 1. */
  alpha?: number
  /** Factor of y, default 1. */
  beta?: number
}

/**
 * `alpha * x + beta * y`, elementwise; `out` may be x or y.
 * @param x any shape, float32
 * @param y of the shape of x, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function add(x: Tensor, y: Tensor, options?: AddOptions): Tensor<'float32'> {
  const where = 'add'
  const checked = checkOptions(where, options, ['alpha', 'beta', 'out'])
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { x, y }, checked.out)
    const sum = native.add(out, handles.x, handles.y, alpha, beta)
    return resultTensor(device, sum, checked.out)
  }
  const alpha = checkFloat32(where, 'alpha', checked.alpha ?? 1)
  const beta = checkFloat32(where, 'beta', checked.beta ?? 1)
  return recorded(where, { x, y }, checked.out, forward, () => ({
    saved: {},
    backward: (dz, needs) => ({
      ...(needs.x && { x: scaled(dz, alpha) }),
      ...(needs.y && { y: scaled(dz, beta) }),
    }),
  }))
}

/** The gradient of one side: `factor * dz`, which is dz itself for a factor of 1. */
function scaled(dz: Tensor, factor: number): Tensor {
  return factor === 1 ? dz : add(dz, dz, { alpha: factor / 2, beta: factor / 2 })
}
