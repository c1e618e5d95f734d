// Which tensors outlive the piece of code that made them.

import { isObject } from '../describe.js'
import { isArray } from '../errors.js'
import { collectTensors, ownTensors } from '../made-tensors.js'
import type { Tensor } from '../tensor.js'
import { tensorHandle } from '../tensor-arguments.js'
import { TensorMemory } from '../tensor-memory.js'
import { checkFunction, checkSynchronous } from './recording.js'

/**
 * Keeps a tensor: neither `backward()`, nor `dispose()` of what was computed from it, nor
 * {@link tidy} disposes it. Only its own `dispose()` does.
 * @returns the tensor
 * @throws ERR_DTYPE for what is not a tensor, ERR_DISPOSED
 */
export function keep<T extends Tensor>(tensor: T): T {
  tensorHandle('keep', 'tensor', tensor)
  tensor.kept = true
  return tensor
}

/**
 * Runs a synchronous function, and disposes every tensor that was made in it and is not in what it
 * returns: a tensor, or arrays and plain objects of tensors. What layers, tables, optimizers and
 * gradients are made of stays, and so do tensors given to {@link keep}. A graph that was recorded
 * in it holds what its backward needs.
 * @returns what `fn` returns
 * @throws ERR_VALUE for a function that returns a promise; if `fn` throws, all is disposed
 */
export function tidy<T>(fn: () => T): T {
  checkFunction('tidy', fn)
  const made: Tensor[] = []
  const restore = collectTensors(made)
  let returned = new Set<unknown>()
  try {
    const result = fn()
    checkSynchronous('tidy', result)
    returned = tensorsIn(result)
    return result
  } finally {
    const staying = made.filter((t) => t.kept || returned.has(t))
    for (const t of made) if (!t.kept && !returned.has(t)) t.dispose()
    made.length = 0
    for (const t of staying) made.push(t)
    restore()
  }
}

/** The tensors in a value: itself, in arrays and plain objects, or an object's own. */
function tensorsIn(result: unknown): Set<unknown> {
  const found = new Set<unknown>([result])
  for (const value of found) {
    if (!(isObject(value) || isArray(value)) || TensorMemory.isTensor(value)) continue
    if (ownTensors in value) {
      for (const t of (value as { [ownTensors](): Iterable<Tensor> })[ownTensors]()) found.add(t)
      continue
    }
    const prototype = Object.getPrototypeOf(value)
    if (!isArray(value) && prototype !== Object.prototype && prototype !== null) continue
    // Not by access: a getter may make tensors.
    for (const property of Object.values(Object.getOwnPropertyDescriptors(value)))
      found.add(property.value)
  }
  return found
}
