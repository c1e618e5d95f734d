// The only file that loads the native addon.

import type * as Binding from '../binding.js'
import { findBinary, noBinary, requireFrom } from './binary.js'
import { MemoryLayersError } from './errors.js'

export type * from '../binding.js'

function load(): typeof Binding {
  const file = findBinary()
  if (!file) throw new MemoryLayersError('ERR_NO_BINARY', noBinary(file))
  let native: typeof Binding
  try {
    native = requireFrom(file)(file)
  } catch (cause) {
    const error = new MemoryLayersError('ERR_NO_BINARY', noBinary(file, cause))
    error.cause = cause
    throw error
  }
  native.initialize(MemoryLayersError as new (code: string, message: string) => Error)
  return native
}

export const native: typeof Binding = load()
