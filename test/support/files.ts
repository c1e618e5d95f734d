import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { system } from '../../lib/files/system.js'

/** A folder that is removed after the tests of a file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A safetensors file of a header, as an object or as its text, and data. */
export function fileOf(header: unknown, data = new Uint8Array(0), length?: bigint): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(length ?? BigInt(json.length))
  return Buffer.concat([prefix, json, data])
}

/** An error as the system's functions throw it. */
export function systemError(code = 'EIO', errno = -5): Error {
  return Object.assign(new Error(`${code}: made by the test`), { code, errno, syscall: 'test' })
}

type Functions = Record<string, (...args: never[]) => unknown>

/**
 * Runs `f` while the call of a file function for which `fails` says so fails. `fails` is given the
 * number of the call, from 1, and the name of the function. Returns the number of calls.
 */
export async function withFailures(
  fails: (call: number, name: string) => Error | false,
  f: () => unknown,
): Promise<number> {
  const functions = system as unknown as Functions
  const originals = { ...functions }
  let calls = 0
  for (const [name, original] of Object.entries(originals)) {
    const throws = /Sync$|^lock$/.test(name)
    functions[name] = (...args) => {
      const error = fails(++calls, name)
      if (!error) return original(...args)
      if (/^close/.test(name)) void original(...args) // as the system does
      if (throws) throw error
      return Promise.reject(error)
    }
  }
  try {
    await f()
  } finally {
    Object.assign(functions, originals)
  }
  return calls
}
