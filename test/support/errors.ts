import { expect } from 'vitest'
import { type ErrorCode, MemoryLayersError } from '../../lib/index.js'

/**
 * Runs `f`, which must throw or reject with a MemoryLayersError of this code; returns the message.
 */
export async function errorOf(code: ErrorCode, f: () => unknown): Promise<string> {
  let error: unknown
  try {
    await f()
  } catch (e) {
    error = e
  }
  expect(error, `wanted ${code}, but nothing was thrown`).toBeDefined()
  expect(error).toBeInstanceOf(MemoryLayersError)
  expect((error as MemoryLayersError).code, (error as Error).message).toBe(code)
  return (error as Error).message
}
