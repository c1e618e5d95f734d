// Whether operations record themselves for `backward()`: on, but inside of noGrad() and while
// explicit forwards and backwards run.

import { isObject } from '../describe.js'
import { describeValue, fail } from '../errors.js'

let recording = true

/** Whether operations on tensors that require a gradient record themselves now. */
export function isRecording(): boolean {
  return recording
}

/** Runs `body` without recording. */
export function unrecorded<T>(body: () => T): T {
  if (!recording) return body()
  recording = false
  try {
    return body()
  } finally {
    recording = true
  }
}

/** Throws ERR_VALUE for what is no function. */
export function checkFunction(where: string, fn: unknown): void {
  if (typeof fn !== 'function') fail('ERR_VALUE', where, 'fn', 'be a function', describeValue(fn))
}

/** Throws ERR_VALUE for a promise, whose work would go on after the scope that it was made in. */
export function checkSynchronous(where: string, result: unknown): void {
  if (!isObject(result) || !('then' in result) || typeof result.then !== 'function') return
  const hint = 'Await outside of it: what an async function does after its first await is not in.'
  fail('ERR_VALUE', where, 'fn', 'return at once', 'a function that returns a promise', hint)
}

/**
 * Runs a synchronous function without recording: what it computes does not require a gradient, and
 * nothing is saved for a backward.
 * @returns what `fn` returns
 * @throws ERR_VALUE for a function that returns a promise
 */
export function noGrad<T>(fn: () => T): T {
  checkFunction('noGrad', fn)
  const result = unrecorded(fn)
  checkSynchronous('noGrad', result)
  return result
}
