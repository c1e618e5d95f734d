// The safetensors format: u64 header length, a JSON header, then the tensors' bytes. Files are
// streamed in pieces; a file that was not written whole is never seen, since writing goes to a
// temporary file that is renamed.

import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { native } from './binding.js'
import { type Device, expectDevice, openDevice } from './device.js'
import { type DType, dtypeRow } from './dtype.js'
import { fail } from './errors.js'
import { options } from './options.js'
import type { StateDict } from './parameter.js'
import { bad, headerLength, parseHeader, select } from './safetensors-header.js'
import { handles, type Tensor } from './tensor.js'

const pieceBytes = 16 * 2 ** 20

/** Where a save or load stands, after each piece. */
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
  /** Called after each piece. */
  onProgress?: (progress: FileProgress) => void
}

/** Options of {@link loadSafetensors}. */
export interface LoadOptions {
  /** Where the tensors go. Default: `openDevice()`. */
  device?: Device
  /** Which tensors to read. Default: all. */
  names?: readonly string[]
  /** Called after each piece. */
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
 * Writes tensors to a safetensors file: streamed piece by piece to a temporary file beside it,
 * flushed to disk, then renamed. On an error the file that was there before is still there.
 * @throws ERR_VALUE, ERR_DTYPE, ERR_DISPOSED, ERR_OPTION, and the system's own errors
 */
export async function saveSafetensors(
  path: string,
  tensors: StateDict,
  given?: SaveOptions,
): Promise<void> {
  const where = 'saveSafetensors'
  const o = options(where, given, ['metadata', 'onProgress'])
  if (typeof tensors !== 'object' || tensors === null)
    fail('ERR_VALUE', where, 'tensors', 'be an object of tensors by name', tensors)
  const header: Record<string, unknown> = {}
  if (o.metadata !== undefined) header['__metadata__'] = checkMetadata(where, o.metadata)
  for (const [name, tensor] of Object.entries(tensors)) {
    handles(where, { [name]: tensor })
    if (name === '__metadata__')
      fail('ERR_VALUE', where, 'tensors', 'not use the reserved name', name)
    header[name] = undefined // the names keep their order in the header
  }
  const ordered = wideFirst(tensors)
  let total = 0
  for (const [name, tensor] of ordered) {
    const end = total + tensor.byteLength
    header[name] = {
      dtype: dtypeRow(tensor.dtype).safetensors,
      shape: tensor.shape,
      data_offsets: [total, end],
    }
    total = end
  }
  const json = Buffer.from(JSON.stringify(header))
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0)
  json.copy(padded, 8)

  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const file = await open(temporary, 'wx')
  try {
    await writeAll(file, padded)
    let done = 0
    for (const [name, tensor] of ordered) {
      const flat = tensor.reshape([tensor.size])
      const step = pieceBytes / dtypeRow(tensor.dtype).bytes
      for (let at = 0; at < flat.size; at += step) {
        const piece = flat.rows(at, Math.min(flat.size, at + step))
        const data = await piece.data()
        piece.dispose()
        await writeAll(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
        done += data.byteLength
        o.onProgress?.({ name, done, total })
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

// Wide elements before narrow ones: each tensor then begins at a multiple of its element's size, so
// that any can be mapped.
function wideFirst(tensors: StateDict): [string, Tensor][] {
  const bytes = (t: Tensor) => dtypeRow(t.dtype).bytes
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
  for (let at = 0; at < bytes.length; )
    at += (await file.write(bytes, at, bytes.length - at)).bytesWritten
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
export async function loadSafetensors(path: string, given?: LoadOptions): Promise<StateDict> {
  return (await readSafetensors(path, given)).tensors
}

/** {@link loadSafetensors}, with the file's metadata. */
export async function readSafetensors(path: string, given?: LoadOptions): Promise<LoadedTensors> {
  const where = 'loadSafetensors'
  const o = options(where, given, ['device', 'names', 'onProgress'])
  if (o.device !== undefined) expectDevice(where, o.device)
  if (o.names !== undefined && !Array.isArray(o.names))
    fail('ERR_VALUE', where, 'names', 'be an array of names', o.names)
  const file = await open(path, 'r')
  const tensors: StateDict = {}
  try {
    const { entries, metadata, dataStart } = await readHeader(where, path, file)
    const wanted = select(where, path, entries, o.names)
    const total = wanted.reduce((sum, e) => sum + e.end - e.begin, 0)
    const device = o.device ?? openDevice()
    const piece = Buffer.alloc(
      Math.min(pieceBytes, Math.max(1, ...wanted.map((e) => e.end - e.begin))),
    )
    let done = 0
    for (const entry of wanted) {
      const tensor = device.empty(entry.shape, entry.dtype)
      tensors[entry.name] = tensor
      for (let at = entry.begin; at < entry.end; at += piece.length) {
        const bytes = piece.subarray(0, Math.min(piece.length, entry.end - at))
        await readAll(where, path, file, bytes, dataStart + at)
        native.tensorWrite(tensor.handle(where, entry.name), at - entry.begin, bytes)
        done += bytes.length
        o.onProgress?.({ name: entry.name, done, total })
      }
    }
    return { tensors, metadata }
  } catch (error) {
    for (const t of Object.values(tensors)) t.dispose()
    throw error
  } finally {
    await file.close()
  }
}

async function readAll(
  where: string,
  path: string,
  file: FileHandle,
  into: Uint8Array,
  position: number,
): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await file.read(into, at, into.length - at, position + at)
    if (bytesRead === 0) bad(where, path, `it ends at byte ${position + at}`)
    at += bytesRead
  }
}

async function readHeader(where: string, path: string, file: FileHandle) {
  const { size } = await file.stat()
  const prefix = Buffer.alloc(8)
  if (size >= 8) await readAll(where, path, file, prefix, 0)
  const text = Buffer.alloc(headerLength(where, path, size, prefix))
  await readAll(where, path, file, text, 8)
  return parseHeader(where, path, size, text)
}

/** Where a tensor lies in a file, found without waiting: for memory mapping. */
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
    const text = Buffer.alloc(headerLength(where, path, size, prefix))
    if (readSync(file, text, 0, text.length, 8) < text.length)
      bad(where, path, `it ends within its header`)
    const { entries, dataStart } = parseHeader(where, path, size, text)
    const [entry] = select(where, path, entries, [name], 'name')
    return { dtype: entry!.dtype, shape: entry!.shape, offset: dataStart + entry!.begin }
  } finally {
    closeSync(file)
  }
}
