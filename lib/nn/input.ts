import type { Device } from '../device.js'
import { fail } from '../errors.js'
import { type LayerInput, toInputTensor } from '../layer-input.js'
import { formatShape, type Tensor, tensorHandle } from '../tensor.js'

/** The input of a module as rows. */
export interface Rows {
  /** `[tokens, width]`, a view that the caller owns. */
  rows: Tensor
  /** The axes before the last: `[tokens]` or `[batch, time]`. */
  leading: readonly number[]
  /** A result `[tokens, w]` under the leading axes of the input; the result is disposed. */
  restoreShape(result: Tensor<'float32'>): Tensor<'float32'>
}

/** Rows of a gradient, as many as the input had. @throws ERR_SHAPE, ERR_DTYPE */
export function toGradientRows(
  where: string,
  dy: LayerInput,
  device: Device,
  width: number,
  tokens: number,
): Rows {
  const result = toRows(where, 'dy', dy, device, width)
  const found = result.rows.shape[0] ?? 0
  if (found !== tokens) {
    const hint = 'It must be the gradient of the output that came with this context.'
    fail('ERR_SHAPE', where, 'dy', `have ${tokens} rows, as the output has`, found, hint)
  }
  return result
}

/** Checks an input `[tokens, width]` or `[batch, time, width]`. @throws ERR_SHAPE, ERR_DTYPE */
export function toRows(
  where: string,
  name: string,
  x: LayerInput,
  device: Device,
  width: number,
): Rows {
  const { tensor, temporary } = toInputTensor(where, name, x, device, width)
  tensorHandle(where, name, tensor, device)
  const { shape, size } = tensor
  if ((shape.length !== 2 && shape.length !== 3) || shape.at(-1) !== width) {
    const requirement = `have shape [tokens, ${width}] or [batch, time, ${width}]`
    fail('ERR_SHAPE', where, name, requirement, formatShape(shape))
  }
  const rows = tensor.reshape([size / width, width])
  temporary?.dispose()
  const leading = shape.slice(0, -1)
  return {
    rows,
    leading,
    restoreShape(result) {
      if (leading.length === 1) return result
      const view = result.reshape([...leading, ...result.shape.slice(1)])
      result.dispose()
      return view
    },
  }
}
