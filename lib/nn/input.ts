import { type LayerInput, takeInput } from '../context.js'
import type { Device } from '../device.js'
import { fail } from '../errors.js'
import { handles, type Tensor, text } from '../tensor.js'

/**
 * The input of a module as rows `[tokens, width]` (a view that the caller owns), and the shape an
 * output of `width` has.
 */
export function takeRows(
  where: string,
  name: string,
  x: LayerInput,
  device: Device,
  width: number,
) {
  const { tensor, temporary } = takeInput(where, name, x, device, width)
  handles(where, { [name]: tensor }, device)
  const rank = tensor.shape.length
  if ((rank !== 2 && rank !== 3) || tensor.shape[rank - 1] !== width) {
    fail(
      'ERR_SHAPE',
      where,
      name,
      `have shape [tokens, ${width}] or [batch, time, ${width}]`,
      text(tensor.shape),
    )
  }
  const rows = tensor.reshape([tensor.size / width, width])
  temporary?.dispose()
  const leading = tensor.shape.slice(0, -1)
  return {
    rows,
    leading,
    /** A result `[tokens, w]` under the leading axes of the input. */
    shaped(result: Tensor): Tensor {
      if (leading.length === 1) return result
      const view = result.reshape([...leading, result.shape[1]!])
      result.dispose()
      return view
    },
  }
}
