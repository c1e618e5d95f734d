// Makes the native code's calls fail, as the system may (a development build only).

import { native } from '../../lib/binding.js'

// In the order of native/core/failure.h.
const kinds = ['allocation', 'malloc', 'thread', 'file', 'cuda', 'cudaMemory'] as const

/**
 * What can fail: 'allocation' is memory of a tensor, 'malloc' host memory of the addon
 * (bookkeeping, staging, scratch space), 'thread' the start of a thread, 'file' a native call on a
 * file, 'cuda' a call of the emulated CUDA runtime, 'cudaMemory' an allocation of that, on the
 * device or pinned.
 */
export type FailureKind = (typeof kinds)[number]

/** From here on `after` calls of the kind succeed, and the next `times` fail, on all threads. */
export function failNext(failure: { kind: FailureKind; after?: number; times?: number }): void {
  native.failNext(kinds.indexOf(failure.kind), failure.after ?? 0, failure.times ?? 1)
}

/** Calls of the kind since the last failNext of it. */
export function failureCalls(kind: FailureKind): number {
  return native.failureCalls(kinds.indexOf(kind))
}

/** No call of the kind fails any more. */
export function stopFailing(kind: FailureKind): void {
  failNext({ kind, times: 0 })
}
