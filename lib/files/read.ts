// Files that are read: opened without waiting, and checked to be the same file at the end.

import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { quotePath } from '../describe.js'
import { MemoryLayersError } from '../errors.js'
import { failFormat } from '../safetensors-formats.js'
import {
  checkRegular,
  type FileContext,
  fileError,
  readFlags,
  system,
  unlessAbsent,
} from './system.js'

/** An open file, read at any position. Its errors are MemoryLayersErrors. */
export interface ReadableFile {
  readonly size: number
  /** The bytes read into `target`: fewer than it has where the file ends. */
  read(target: Uint8Array, position: number): Promise<number>
  /** As it was at its opening and as it is. */
  changed(): Promise<boolean>
}

/** The same, at once. */
export interface ReadableFileSync {
  readonly descriptor: number
  readonly size: number
  read(target: Uint8Array, position: number): number
}

/** Calls `use` with a regular file that is open. @throws ERR_VALUE, ERR_FILE_FORMAT */
export async function withFile<T>(
  file: FileContext,
  use: (open: ReadableFile) => Promise<T>,
): Promise<T> {
  const attempt = <R>(f: () => Promise<R>): Promise<R> =>
    f().catch((error) => {
      throw fileError(file, 'read', error)
    })
  const handle = await attempt(async () => {
    checkRegular(file, await system.stat(file.path)) // opening a device may act on it
    return system.open(file.path, readFlags)
  })
  try {
    const opened = await attempt(() => system.fstat(handle))
    checkRegular(file, opened)
    return await use({
      size: Number(opened.size),
      read: (target, position) => attempt(() => readInto(handle, target, position)),
      changed: async () => !sameContent(opened, await attempt(() => system.fstat(handle))),
    })
  } finally {
    await system.close(handle).catch(() => {})
  }
}

async function readInto(handle: FileHandle, target: Uint8Array, position: number) {
  let done = 0
  while (done < target.length) {
    const { bytesRead } = await system.read(handle, target, done, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

/** As {@link withFile}, at once: for what is not asynchronous. */
export function withFileSync<T>(file: FileContext, use: (open: ReadableFileSync) => T): T {
  const attempt = <R>(f: () => R): R => {
    try {
      return f()
    } catch (error) {
      throw fileError(file, 'read', error)
    }
  }
  const descriptor = attempt(() => {
    checkRegular(file, system.statSync(file.path))
    return system.openSync(file.path, readFlags)
  })
  try {
    const opened = attempt(() => system.fstatSync(descriptor))
    checkRegular(file, opened)
    return use({
      descriptor,
      size: Number(opened.size),
      read: (target, position) => attempt(() => readIntoSync(descriptor, target, position)),
    })
  } finally {
    try {
      system.closeSync(descriptor)
    } catch {}
  }
}

function readIntoSync(descriptor: number, target: Uint8Array, position: number): number {
  let done = 0
  while (done < target.length) {
    const count = system.readSync(descriptor, target, done, target.length - done, position + done)
    if (count === 0) break
    done += count
  }
  return done
}

/** Fills `target`. @throws ERR_FILE_FORMAT where the file ends before */
export async function readExactly(
  file: FileContext,
  open: ReadableFile,
  target: Uint8Array,
  position: number,
): Promise<void> {
  checkWhole(file, target, position, await open.read(target, position))
}

/** The same, at once. */
export function readExactlySync(
  file: FileContext,
  open: ReadableFileSync,
  target: Uint8Array,
  position: number,
): void {
  checkWhole(file, target, position, open.read(target, position))
}

function checkWhole(file: FileContext, target: Uint8Array, position: number, count: number): void {
  if (count < target.length) failFormat(file, `it ends at byte ${position + count}`)
}

// Size and time differ after every change that the file system tells of.
function sameContent(a: BigIntStats, b: BigIntStats): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs
}

/** The text of a regular file, UTF-8. @throws ERR_VALUE, ERR_FILE_FORMAT, ERR_OUT_OF_MEMORY */
export function readText(where: string, path: string): Promise<string> {
  const file = { where, path }
  return withFile(file, async (open) => {
    const bytes = allocate(file, open.size)
    await readExactly(file, open, bytes, 0)
    try {
      return bytes.toString()
    } catch {
      const text = `${where}: ${quotePath(path)} has ${open.size} bytes, too many for a string.`
      throw new MemoryLayersError('ERR_OUT_OF_MEMORY', text)
    }
  })
}

/** Whether there is something at a path. @throws ERR_FILE_FORMAT where the system can't say */
export async function isPresent({ where, path }: FileContext): Promise<boolean> {
  try {
    return (await unlessAbsent(() => system.stat(path))) !== undefined
  } catch (error) {
    throw fileError({ where, path }, 'read', error)
  }
}

/** Memory of the process. @throws ERR_OUT_OF_MEMORY */
export function allocate({ where, path }: FileContext, bytes: number): Buffer {
  try {
    return Buffer.allocUnsafeSlow(bytes)
  } catch {
    const text = `${where}: no memory for ${bytes} bytes of ${quotePath(path)}.`
    throw new MemoryLayersError('ERR_OUT_OF_MEMORY', text)
  }
}
