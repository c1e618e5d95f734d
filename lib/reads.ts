// What a backward reads must be what its forward found.

import { native, type TensorHandle } from './binding.js'
import { MemoryLayersError } from './errors.js'

/** Throws ERR_CONTEXT if the memory was written since it had been written `writes` times. */
export function checkUnwritten(
  where: string,
  subject: string,
  handle: TensorHandle,
  writes: number,
): void {
  if (native.tensorWrittenSince(handle, writes))
    throw contextError(where, `${subject} was written since the forward`)
}

/** Why a context or a graph can't be spent. */
export function contextError(where: string, problem: string): MemoryLayersError {
  const hint =
    'Each forward gives one backward, which comes before its input or the parameters are ' +
    'written; run forward again.'
  return new MemoryLayersError('ERR_CONTEXT', `${where}: ${problem}.\n  ${hint}`)
}
