// All or nothing: calls that are made of several native calls.

import { native } from './binding.js'
import type { Device } from './device.js'
import { collectTensors } from './made-tensors.js'
import type { Tensor } from './tensor.js'

/**
 * Runs `body`. If it throws, disposes the tensors that it made, and what is in `owned` by then:
 * what could not be made whole holds no memory.
 */
export function disposeOnError<T>(body: () => T, owned: readonly { dispose(): void }[] = []): T {
  const made: Tensor[] = []
  const restore = collectTensors(made)
  try {
    return body()
  } catch (error) {
    for (const o of [...owned, ...made]) o.dispose()
    made.length = 0
    throw error
  } finally {
    restore()
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
