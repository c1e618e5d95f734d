import { findTransport, requireFrom, transportTarget } from '../binary.js'
import type { TransportHandle } from '../binding.js'
import { MemoryLayersError } from '../errors.js'

/** The addon for MPI. @throws ERR_UNSUPPORTED where it is not built or can't be loaded */
export function loadTransport(): TransportHandle {
  const file = findTransport()
  if (!file) {
    const named = process.env['MEMORY_LAYERS_MPI']
    throw unsupported(
      named
        ? `there is no file ${named}, which MEMORY_LAYERS_MPI names.`
        : `the addon for MPI has not been built: there is no ${transportTarget}.`,
    )
  }
  // UCX, which an MPI may send through, else patches the C library's allocation functions while
  // other threads of Node run in them.
  process.env['UCX_MEM_EVENTS'] ??= 'no'
  try {
    return (requireFrom(file)(file) as { transport: TransportHandle }).transport
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    const error = unsupported(`${file} can't be loaded: ${reason}.`)
    error.cause = cause
    throw error
  }
}

function unsupported(problem: string): MemoryLayersError {
  return new MemoryLayersError(
    'ERR_UNSUPPORTED',
    `initDistributed: ${problem}\n` +
      '  Install an MPI with its compiler wrapper (Debian: apt-get install openmpi-bin ' +
      'libopenmpi-dev),\n  then run: npx memory-layers build --mpi',
  )
}
