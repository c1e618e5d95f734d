// The safetensors format: u64 header length, a JSON header, then the tensors' bytes. Files are streamed in pieces; a file that was not
// written whole is never seen, since writing goes to a temporary file that is renamed.

import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { native } from './binding.js'
import { type Device, expectDevice, openDevice } from './device.js'
import { type DType, dtypeRow, dtypes } from './dtype.js'
import { fail, MemoryLayersError } from './errors.js'
import { options } from './options.js'
import type { StateDict } from './parameter.js'
import { handles, type Tensor } from './tensor.js'

const pieceBytes = 16 * 2 ** 20
const headerLimit = 100 * 2 ** 20

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

interface Entry {
  name: string
  dtype: DType
  shape: number[]
  begin: number
  end: number
}

/**
 * Writes tensors to a safetensors file: streamed piece by piece to a temporary file beside it, flushed to disk, then renamed. On an error the
 * file that was there before is still there.
 * @throws ERR_VALUE, ERR_DTYPE, ERR_DISPOSED, ERR_OPTION, and the system's own errors
 */
export async function saveSafetensors(path: string, tensors: StateDict, given?: SaveOptions): Promise<void> {
  const where = 'saveSafetensors'
  const o = options(where, given, ['metadata', 'onProgress'])
  if (typeof tensors !== 'object' || tensors === null) fail('ERR_VALUE', where, 'tensors', 'be an object of tensors by name', tensors)
  const header: Record<string, unknown> = {}
  if (o.metadata !== undefined) header['__metadata__'] = checkMetadata(where, o.metadata)
  for (const [name, tensor] of Object.entries(tensors)) {
    handles(where, { [name]: tensor })
    if (name === '__metadata__') fail('ERR_VALUE', where, 'tensors', 'not use the reserved name', name)
    header[name] = undefined // the names keep their order in the header
  }
  const ordered = wideFirst(tensors)
  let total = 0
  for (const [name, tensor] of ordered) {
    const end = total + tensor.byteLength
    header[name] = { dtype: dtypeRow(tensor.dtype).safetensors, shape: tensor.shape, data_offsets: [total, end] }
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

// Wide elements before narrow ones: each tensor then begins at a multiple of its element's size, so that any can be mapped.
function wideFirst(tensors: StateDict): [string, Tensor][] {
  const bytes = (t: Tensor) => dtypeRow(t.dtype).bytes
  return Object.entries(tensors).sort(([, a], [, b]) => bytes(b) - bytes(a))
}

function checkMetadata(where: string, metadata: Record<string, string>): Record<string, string> {
  for (const [name, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') fail('ERR_VALUE', where, `metadata.${name}`, 'be a string', value)
  }
  return metadata
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten
}

// A rename is on disk only once its folder is.
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().catch(() => {}) // some file systems refuse to flush a folder; the file itself was flushed
  await folder.close()
}

/**
 * Reads a safetensors file, streamed. The header is checked whole before anything is read: lengths, names, dtypes, shapes, ranges, overlap.
 * @returns the tensors by name
 * @throws ERR_FILE_FORMAT for a file that is truncated or not what it says; ERR_VALUE for a name that is not in it; ERR_DEVICE, ERR_OPTION
 */
export async function loadSafetensors(path: string, given?: LoadOptions): Promise<StateDict> {
  return (await readSafetensors(path, given)).tensors
}

/** {@link loadSafetensors}, with the file's metadata. */
export async function readSafetensors(path: string, given?: LoadOptions): Promise<LoadedTensors> {
  const where = 'loadSafetensors'
  const o = options(where, given, ['device', 'names', 'onProgress'])
  if (o.device !== undefined) expectDevice(where, o.device)
  if (o.names !== undefined && !Array.isArray(o.names)) fail('ERR_VALUE', where, 'names', 'be an array of names', o.names)
  const file = await open(path, 'r')
  const tensors: StateDict = {}
  try {
    const { entries, metadata, dataStart } = await readHeader(where, path, file)
    const wanted = select(where, path, entries, o.names)
    const total = wanted.reduce((sum, e) => sum + e.end - e.begin, 0)
    const device = o.device ?? openDevice()
    const piece = Buffer.alloc(Math.min(pieceBytes, Math.max(1, ...wanted.map((e) => e.end - e.begin))))
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

function bad(where: string, path: string, what: string): never {
  throw new MemoryLayersError(
    'ERR_FILE_FORMAT',
    `${where}: "${path}" is not a sound safetensors file: ${what}.\n  It may be truncated or not a safetensors file; write it again.`,
  )
}

async function readAll(where: string, path: string, file: FileHandle, into: Uint8Array, position: number): Promise<void> {
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
export function locateTensor(where: string, path: string, name: string): { dtype: DType; shape: number[]; offset: number } {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const prefix = Buffer.alloc(8)
    readSync(file, prefix, 0, 8, 0)
    const text = Buffer.alloc(headerLength(where, path, size, prefix))
    if (readSync(file, text, 0, text.length, 8) < text.length) bad(where, path, `it ends within its header`)
    const { entries, dataStart } = parseHeader(where, path, size, text)
    const [entry] = select(where, path, entries, [name], 'name')
    return { dtype: entry!.dtype, shape: entry!.shape, offset: dataStart + entry!.begin }
  } finally {
    closeSync(file)
  }
}

function headerLength(where: string, path: string, size: number, prefix: Buffer): number {
  if (size < 8) bad(where, path, `it has ${size} bytes, fewer than the 8 of the header's length`)
  const length = prefix.readBigUInt64LE(0)
  if (length > BigInt(headerLimit) || length > BigInt(size - 8)) {
    bad(where, path, `its header claims ${length} bytes of a file of ${size}`)
  }
  return Number(length)
}

function parseHeader(where: string, path: string, size: number, text: Buffer) {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text))
  } catch {
    bad(where, path, 'its header is not JSON')
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) bad(where, path, 'its header is not an object')
  const dataStart = 8 + text.length
  const metadata: Record<string, string> = {}
  const entries: Entry[] = []
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') Object.assign(metadata, readMetadata(where, path, value))
    else entries.push(readEntry(where, path, name, value))
  }
  checkRanges(where, path, entries, size - dataStart)
  return { entries, metadata, dataStart }
}

function readMetadata(where: string, path: string, value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || Object.values(value).some((v) => typeof v !== 'string')) {
    bad(where, path, 'its __metadata__ is not an object of strings')
  }
  return value as Record<string, string>
}

function readEntry(where: string, path: string, name: string, value: unknown): Entry {
  const entry = (typeof value === 'object' && value !== null ? value : {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown }
  const dtype = dtypes.find((d) => dtypeRow(d).safetensors === entry.dtype)
  if (!dtype)
    bad(
      where,
      path,
      `tensor "${name}" has dtype ${JSON.stringify(entry.dtype)}; known are ${dtypes.map((d) => dtypeRow(d).safetensors).join(', ')}`,
    )
  const whole = (v: unknown): v is number => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0
  const shape = entry.shape
  if (!Array.isArray(shape) || !shape.every(whole) || shape.length > 6) bad(where, path, `tensor "${name}" has no sound shape`)
  const [begin, end] = Array.isArray(entry.data_offsets) && entry.data_offsets.length === 2 ? entry.data_offsets : [1, 0]
  if (!whole(begin) || !whole(end) || begin > end) bad(where, path, `tensor "${name}" has no sound data_offsets`)
  const bytes = shape.reduce((a: number, b: number) => a * b, dtypeRow(dtype).bytes)
  if (bytes !== end - begin) {
    bad(where, path, `tensor "${name}" ${entry.dtype} [${shape.join(', ')}] needs ${bytes} bytes but has ${end - begin}`)
  }
  return { name, dtype, shape, begin, end }
}

// The format wants the tensors to fill the data without holes or overlap.
function checkRanges(where: string, path: string, entries: readonly Entry[], size: number): void {
  let at = 0
  for (const e of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (e.begin < at) bad(where, path, `tensor "${e.name}" overlaps the one before it`)
    if (e.begin > at) bad(where, path, `there is a hole before tensor "${e.name}"`)
    at = e.end
  }
  if (at !== size) bad(where, path, `its tensors need ${at} bytes but ${size} follow the header`)
}

function select(
  where: string,
  path: string,
  entries: readonly Entry[],
  names: readonly string[] | undefined,
  argument = 'names',
): readonly Entry[] {
  if (names === undefined) return entries
  return names.map((name) => {
    const entry = entries.find((e) => e.name === name)
    if (!entry)
      fail('ERR_VALUE', where, argument, `be among the tensors of "${path}"`, name, `It has: ${entries.map((e) => e.name).join(', ')}.`)
    return entry
  })
}
