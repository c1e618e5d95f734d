// The only file that loads the native addon.

import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type * as Binding from '../binding.js'
import { MemoryLayersError } from './errors.js'

export type * from '../binding.js'

// One level below the package's root, from lib/ and from dist/ alike.
const root = dirname(dirname(fileURLToPath(import.meta.url)))

function load(): typeof Binding {
  const require = createRequire(import.meta.url)
  try {
    const native = (require('node-gyp-build') as (root: string) => typeof Binding)(root)
    native.initialize(MemoryLayersError as new (code: string, message: string) => Error)
    return native
  } catch (cause) {
    const error = new MemoryLayersError(
      'ERR_NO_BINARY',
      `memory-layers: no native binary for ${process.platform}-${process.arch}, Node ${process.versions.node} could be loaded from ${root}.\n` +
        `  ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}\n` +
        '  In a checkout run `npm run build:native`; it needs cmake and a C++20 compiler.',
    )
    error.cause = cause
    throw error
  }
}

export const native: typeof Binding = load()
