// The safetensors format: u64 header length, a JSON header, then the tensors' bytes. Files are
// streamed in chunks; a file that was not written whole is never seen, since writing goes to a
// temporary file that is renamed.

import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { native } from './binding.js'
import { checkDevice, type Device } from './device.js'
import { type DType, dtypeInfo } from './dtype.js'
import { fail } from './errors.js'
import { openDevice } from './open-device.js'
import { checkOptions } from './options.js'
import {
  failFormat,
  type Header,
  headerLength,
  parseHeader,
  selectEntries,
  selectEntry,
} from './safetensors-header.js'
import type { StateDict } from './state-dict.js'
import { type Tensor, tensorHandle } from './tensor.js'

const chunkBytes = 16 * 2 ** 20

/** Progress of a save or load, after each chunk. */
export interface FileProgress {
  /** The tensor at hand. */
  name: string
  /** Bytes done. */
  done: number
  /** Bytes in all. */
  total: number
}

/** Options of {@link saveSafetensors}. */
export interface SaveOptions {
  /** Strings kept in the file's `__metadata__`. */
  metadata?: Record<string, string>
  /** Called after each chunk. */
  onProgress?: (progress: FileProgress) => void
}

/** Options of {@link loadSafetensors}. */
export interface LoadOptions {
  /** Where the tensors go. Default: `openDevice()`. */
  device?: Device
  /** Which tensors to read. Default: all. */
  names?: readonly string[]
  /** Called after each chunk. */
  onProgress?: (progress: FileProgress) => void
}

/** Tensors by name, and the file's metadata. */
export interface LoadedTensors {
  /** By name. */
  tensors: StateDict
  /** The file's `__metadata__`. */
  metadata: Record<string, string>
}

/**
 * Writes tensors to a safetensors file: streamed chunk by chunk to a temporary file beside it,
 * flushed to disk, then renamed. On an error the file that was there before is still there.
 * @throws ERR_VALUE, ERR_DTYPE, ERR_DISPOSED, ERR_OPTION, and the system's own errors
 */
export async function saveSafetensors(
  path: string,
  tensors: StateDict,
  options?: SaveOptions,
): Promise<void> {
  const where = 'saveSafetensors'
  const { metadata, onProgress } = checkOptions(where, options, ['metadata', 'onProgress'])
  const { header, ordered, total } = encodeHeader(where, tensors, metadata)

  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const file = await open(temporary, 'wx')
  try {
    await writeAll(file, header)
    let done = 0
    for (const [name, tensor] of ordered) {
      const flat = tensor.reshape([tensor.size])
      const step = chunkBytes / dtypeInfo(tensor.dtype).bytes
      for (let begin = 0; begin < flat.size; begin += step) {
        const chunk = flat.rows(begin, Math.min(flat.size, begin + step))
        const data = await chunk.bits()
        chunk.dispose()
        await writeAll(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
        done += data.byteLength
        onProgress?.({ name, done, total })
      }
      flat.dispose()
    }
    await file.sync()
    await file.close()
    await rename(temporary, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await file.close().catch(() => {})
    await rm(temporary, { force: true })
    throw error
  }
}

/** The file's first bytes, the tensors in the order of the file, and the bytes of them all. */
function encodeHeader(
  where: string,
  tensors: StateDict,
  metadata: Record<string, string> | undefined,
): { header: Buffer; ordered: [string, Tensor][]; total: number } {
  if (typeof tensors !== 'object' || tensors === null)
    fail('ERR_VALUE', where, 'tensors', 'be an object of tensors by name', tensors)
  const fields: Record<string, unknown> = {}
  if (metadata !== undefined) fields['__metadata__'] = checkMetadata(where, metadata)
  for (const [name, tensor] of Object.entries(tensors)) {
    tensorHandle(where, name, tensor)
    if (name === '__metadata__')
      fail('ERR_VALUE', where, 'tensors', 'not use the reserved name', name)
    fields[name] = undefined // the names keep their order in the header
  }
  const ordered = widestFirst(tensors)
  let total = 0
  for (const [name, tensor] of ordered) {
    const end = total + tensor.byteLength
    fields[name] = {
      dtype: dtypeInfo(tensor.dtype).safetensors,
      shape: tensor.shape,
      data_offsets: [total, end],
    }
    total = end
  }
  const json = Buffer.from(JSON.stringify(fields))
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  header.writeBigUInt64LE(BigInt(header.length - 8), 0)
  json.copy(header, 8)
  return { header, ordered, total }
}

// Wide elements before narrow ones: each tensor then begins at a multiple of its element's size, so
// that any can be mapped.
function widestFirst(tensors: StateDict): [string, Tensor][] {
  const bytes = (t: Tensor) => dtypeInfo(t.dtype).bytes
  return Object.entries(tensors).sort(([, a], [, b]) => bytes(b) - bytes(a))
}

function checkMetadata(where: string, metadata: Record<string, string>): Record<string, string> {
  for (const [name, value] of Object.entries(metadata)) {
    if (typeof value !== 'string')
      fail('ERR_VALUE', where, `metadata.${name}`, 'be a string', value)
  }
  return metadata
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done)
    done += bytesWritten
  }
}

// A rename is on disk only once its folder is.
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  // some file systems refuse to flush a folder; the file itself was flushed
  await folder.sync().catch(() => {})
  await folder.close()
}

/**
 * Reads a safetensors file, streamed. The header is checked whole before anything is read: lengths,
 * names, dtypes, shapes, ranges, overlap.
 * @returns the tensors by name
 * @throws ERR_FILE_FORMAT for a file that is truncated or not what it says; ERR_VALUE for a name
 * that is not in it; ERR_DEVICE, ERR_OPTION
 */
export async function loadSafetensors(path: string, options?: LoadOptions): Promise<StateDict> {
  const { tensors } = await readSafetensors(path, options)
  return tensors
}

/** {@link loadSafetensors}, with the file's metadata. */
export async function readSafetensors(path: string, options?: LoadOptions): Promise<LoadedTensors> {
  const where = 'loadSafetensors'
  const { device, names, onProgress } = checkOptions(where, options, [
    'device',
    'names',
    'onProgress',
  ])
  if (device !== undefined) checkDevice(where, device)
  if (names !== undefined && !Array.isArray(names))
    fail('ERR_VALUE', where, 'names', 'be an array of names', names)
  const file = await open(path, 'r')
  const tensors: StateDict = {}
  try {
    const { entries, metadata, dataStart } = await readHeader(where, path, file)
    const selected = selectEntries(where, path, entries, names)
    const sizes = selected.map((entry) => entry.end - entry.begin)
    const total = sizes.reduce((sum, size) => sum + size, 0)
    const target = device ?? openDevice()
    const buffer = Buffer.alloc(Math.min(chunkBytes, Math.max(1, ...sizes)))
    let done = 0
    for (const { name, shape, dtype, begin, end } of selected) {
      const tensor = target.empty(shape, dtype)
      tensors[name] = tensor
      for (let offset = begin; offset < end; offset += buffer.length) {
        const chunk = buffer.subarray(0, Math.min(buffer.length, end - offset))
        await readExactly(where, path, file, chunk, dataStart + offset)
        native.tensorWrite(tensor.handle(where, name), offset - begin, chunk)
        done += chunk.length
        onProgress?.({ name, done, total })
      }
    }
    return { tensors, metadata }
  } catch (error) {
    for (const tensor of Object.values(tensors)) tensor.dispose()
    throw error
  } finally {
    await file.close()
  }
}

async function readExactly(
  where: string,
  path: string,
  file: FileHandle,
  target: Uint8Array,
  position: number,
): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done)
    if (bytesRead === 0) failFormat(where, path, `it ends at byte ${position + done}`)
    done += bytesRead
  }
}

async function readHeader(where: string, path: string, file: FileHandle): Promise<Header> {
  const { size } = await file.stat()
  const prefix = Buffer.alloc(8)
  if (size >= 8) await readExactly(where, path, file, prefix, 0)
  const json = Buffer.alloc(headerLength(where, path, size, prefix))
  await readExactly(where, path, file, json, 8)
  return parseHeader(where, path, size, json)
}

/** Where a tensor is in a file, read synchronously: for memory mapping. */
export function locateTensor(
  where: string,
  path: string,
  name: string,
): { dtype: DType; shape: number[]; offset: number } {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const prefix = Buffer.alloc(8)
    readSync(file, prefix, 0, 8, 0)
    const json = Buffer.alloc(headerLength(where, path, size, prefix))
    if (readSync(file, json, 0, json.length, 8) < json.length)
      failFormat(where, path, 'it ends within its header')
    const { entries, dataStart } = parseHeader(where, path, size, json)
    const { dtype, shape, begin } = selectEntry(where, path, entries, name, 'name')
    return { dtype, shape, offset: dataStart + begin }
  } finally {
    closeSync(file)
  }
}
