import { disposeOnError } from './atomically.js'
import { unrecorded } from './autograd/recording.js'
import { native } from './binding.js'
import type { Tensor } from './tensor.js'

/**
 * Overwrites `target` with `source`, which may be on another device, of another float dtype, or of
 * another shape with as many elements.
 */
export function overwrite(target: Tensor, source: Tensor): void {
  unrecorded(() =>
    disposeOnError(() => {
      const moved = source.device === target.device ? undefined : source.to(target.device)
      const view = (moved ?? source).reshape(target.shape)
      native.tensorCopy(target.handle('copy', 'target'), view.handle('copy', 'source'))
      view.dispose()
      moved?.dispose()
    }),
  )
}
