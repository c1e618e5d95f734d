import type { Device } from '../device.js'
import { fail } from '../errors.js'
import { type LayerInput, toInputTensor } from '../layer-input.js'
import { formatShape, Tensor, tensorHandle } from '../tensor.js'

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

/**
 * Runs `body`, which keeps nothing of its argument, on the rows of an input. A tensor that is rows
 * already is passed as it is: a view costs as much as a small operation.
 * @returns what `body` returns, under the leading axes of the input
 * @throws ERR_SHAPE, ERR_DTYPE
 */
export function overRows(
  where: string,
  x: LayerInput,
  device: Device,
  width: number,
  body: (rows: Tensor) => Tensor<'float32'>,
): Tensor<'float32'> {
  if (Tensor.is(x) && x.shape.length === 2 && x.shape[1] === width) {
    tensorHandle(where, 'x', x, device)
    return body(x)
  }
  const { rows, restoreShape } = toRows(where, 'x', x, device, width)
  const output = restoreShape(body(rows))
  rows.dispose()
  return output
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
