// All or nothing: calls that are made of several native calls.

import { native } from './binding.js'
import type { Device } from './device.js'
import { collectOwners, collectTensors } from './made-tensors.js'
import type { Tensor } from './tensor.js'

/**
 * Runs `body`. If it throws, disposes the tensors, tables and layers that it made: what could not
 * be made whole holds no memory.
 */
export function disposeOnError<T>(body: () => T): T {
  const made: Tensor[] = []
  const owners: { dispose(): void }[] = []
  const restoreTensors = collectTensors(made)
  const restoreOwners = collectOwners(owners)
  try {
    return body()
  } catch (error) {
    for (const o of [...owners, ...made]) o.dispose()
    owners.length = 0
    made.length = 0
    throw error
  } finally {
    restoreOwners()
    restoreTensors()
  }
}

let waiting: (() => void)[] | undefined

/** Runs `action` now, or when the outermost `atomically` that runs has succeeded. */
export function whenCommitted(action: () => void): void {
  if (waiting) waiting.push(action)
  else action()
}

/**
 * Runs `body`, which makes work on `device`: nothing is enqueued before it returns, so that after
 * an error no tensor has changed. The body must not wait for its own work.
 */
export function atomically<T>(device: Device, body: () => T): T {
  const outer = waiting
  const actions: (() => void)[] = []
  const result = disposeOnError(() => {
    native.batchBegin(device.handle)
    waiting = actions
    let commit = false
    try {
      const result = body()
      commit = true
      return result
    } finally {
      waiting = outer
      native.batchEnd(device.handle, commit)
    }
  })
  for (const action of actions) whenCommitted(action)
  return result
}
