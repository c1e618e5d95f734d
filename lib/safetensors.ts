// The safetensors format: u64 header length, a JSON header, then the tensors' bytes. Files are
// streamed in chunks; a file that was not written whole is never seen, since writing goes to a
// temporary file that is renamed.

import { native } from './binding.js'
import { checkDevice, type Device } from './device.js'
import { dtypeCode, dtypeInfo } from './dtype.js'
import { fail, isArray } from './errors.js'
import { finish, finishPaced } from './files/pace.js'
import {
  allocate,
  type ReadableFile,
  readExactly,
  readExactlySync,
  withFile,
  withFileSync,
} from './files/read.js'
import { replaceFile } from './files/replace.js'
import { checkPath, type FileContext } from './files/system.js'
import { openDevice } from './open-device.js'
import { checkOptions } from './options.js'
import { encodeHeader } from './safetensors-encode.js'
import { failFormat, formatBytes } from './safetensors-formats.js'
import {
  type Header,
  headerLength,
  type LoadableEntry,
  parseHeader,
  quoteName,
  selectEntries,
  selectEntry,
} from './safetensors-header.js'
import { Loading } from './safetensors-loading.js'
import { Snapshot } from './safetensors-snapshot.js'
import type { StateDict } from './state-dict.js'
import { formatShape, Tensor } from './tensor.js'

const chunkBytes = 16 * 2 ** 20
/** Small tensors are read together, up to so many. */
const chunkTensors = 1024

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
  /** Called after each chunk. What it throws ends the call, which rejects with it. */
  onProgress?: (progress: FileProgress) => void
}

/** Options of {@link loadSafetensors}. */
export interface LoadOptions {
  /** Where the tensors go. Default: `openDevice()`. */
  device?: Device
  /** Which tensors to read. Default: all. */
  names?: readonly string[]
  /** Called after each chunk. What it throws ends the call, which rejects with it. */
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
 * flushed to disk, then renamed. On an error the file that was there before is still there, and
 * after the rename nothing fails.
 *
 * The file holds names, tensors, metadata and values as they are at the call, whatever is trained,
 * written or disposed meanwhile. A tensor that is written before it has been saved is copied on the
 * device first; where there is no memory for that, the save rejects and the training goes on.
 *
 * A link is followed, and the file it leads to is replaced. Permissions stay, and the owner where
 * the system allows it; other hard links keep the old file. Saves to one path are written in the
 * order of the calls of one thread, so that the last call wins. Temporary files that killed
 * processes left in the folder (`.memory-layers-….tmp`) are removed.
 * @throws ERR_VALUE for names or metadata that could not be read again, and for a path that is a
 * folder, FIFO, socket or device; ERR_FILE_FORMAT where the system can't write the file, with its
 * error as `cause`; ERR_DTYPE, ERR_DISPOSED, ERR_OPTION, ERR_OUT_OF_MEMORY, and the faults of the
 * tensors
 */
export async function saveSafetensors(
  path: string,
  tensors: StateDict,
  options?: SaveOptions,
): Promise<void> {
  return saveAround(path, tensors, options, (save) => save())
}

/**
 * {@link saveSafetensors}, written when `around` calls `save`: with the values of the call before.
 */
export async function saveAround(
  path: string,
  tensors: StateDict,
  options: SaveOptions | undefined,
  around: (save: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const where = 'saveSafetensors'
  const file = { where, path: checkPath(where, path) }
  const { metadata, onProgress } = checkOptions(where, options, ['metadata', 'onProgress'])
  checkCallback(where, onProgress)
  const { header, ordered, total } = encodeHeader(where, tensors, metadata)
  const snapshot = new Snapshot(where, ordered)
  const save = () =>
    replaceFile(file, async (append) => {
      await append(header)
      let done = 0
      // in a function of its own: a chunk can be collected before the next one is read
      const appendChunk = async () => {
        const pieces = await snapshot.read(chunkBytes, chunkTensors)
        await append(joined(pieces.map((piece) => piece.bytes)))
        for (const { name, bytes } of pieces) {
          done += bytes.length
          onProgress?.({ name, done, total })
        }
        return pieces.length > 0
      }
      let more = true
      while (more) more = await appendChunk()
    })
  try {
    await around(save)
  } finally {
    snapshot.dispose()
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [first, ...more] = parts
  return first && more.length === 0 ? first : Buffer.concat(parts)
}

function checkCallback(where: string, callback: unknown): void {
  if (callback !== undefined && typeof callback !== 'function')
    fail('ERR_VALUE', where, 'onProgress', 'be a function', callback)
}

/**
 * Reads a safetensors file, streamed. The header is checked whole before anything is read: lengths,
 * names, dtypes, shapes, ranges, overlap. A file that changes meanwhile is refused.
 * @returns the tensors by name
 * @throws ERR_FILE_FORMAT for a file that is truncated or not what it says, and where the system
 * can't read it, with its error as `cause`; ERR_VALUE for a name that is not in it, and for a path
 * that is a folder, FIFO, socket or device; ERR_DEVICE, ERR_OPTION, ERR_OUT_OF_MEMORY
 */
export async function loadSafetensors(path: string, options?: LoadOptions): Promise<StateDict> {
  const { tensors } = await readSafetensors(path, options)
  return tensors
}

/** {@link loadSafetensors}, with the file's metadata. */
export async function readSafetensors(path: string, options?: LoadOptions): Promise<LoadedTensors> {
  const where = 'loadSafetensors'
  const file = { where, path: checkPath(where, path) }
  const { device, names, onProgress } = checkOptions(where, options, [
    'device',
    'names',
    'onProgress',
  ])
  if (device !== undefined) checkDevice(where, device)
  checkCallback(where, onProgress)
  const wanted = checkNames(where, names)
  return withFile(file, async (open) => {
    const header = await readHeader(file, open)
    const selected = selectEntries(file, header, wanted)
    const total = selected.reduce((sum, entry) => sum + entry.end - entry.begin, 0)
    let done = 0
    const loading = new Loading(device ?? openDevice(), selected, (name, bytes) => {
      done += bytes
      onProgress?.({ name, done, total })
    })
    try {
      const tensors = await loading.run(file, open, header)
      if (await open.changed()) failFormat(file, 'it was changed while it was read')
      return { tensors, metadata: header.metadata }
    } catch (error) {
      loading.dispose()
      throw error
    }
  })
}

function checkNames(
  where: string,
  names: readonly string[] | undefined,
): ReadonlySet<string> | undefined {
  if (names === undefined) return undefined
  if (!isArray(names)) fail('ERR_VALUE', where, 'names', 'be an array of names', names)
  for (const name of names)
    if (typeof name !== 'string') fail('ERR_VALUE', where, 'names', 'hold strings', name)
  return new Set(names)
}

async function readHeader(file: FileContext, open: ReadableFile): Promise<Header> {
  const begin = Buffer.alloc(Math.min(open.size, formatBytes))
  await readExactly(file, open, begin, 0)
  const json = allocate(file, headerLength(file, open.size, begin))
  await readExactly(file, open, json, 8)
  return finishPaced(parseHeader(file, open.size, json, begin))
}

/**
 * Tensors that stay in their file: the rows of a table by `name`, and their `scales`. All is read
 * from the file that was opened once, whatever is at the path meanwhile.
 * @throws ERR_VALUE, ERR_FILE_FORMAT, ERR_SHAPE, ERR_UNSUPPORTED on a device other than the CPU
 */
export function mapTensors(
  where: string,
  device: Device,
  path: string,
  names: { name: string; scales?: string | undefined },
): { rows: Tensor; scales: Tensor | undefined } {
  const file = { where, path: checkPath(where, path) }
  return withFileSync(file, (open) => {
    const begin = Buffer.alloc(Math.min(open.size, formatBytes))
    readExactlySync(file, open, begin, 0)
    const json = allocate(file, headerLength(file, open.size, begin))
    readExactlySync(file, open, json, 8)
    const header = finish(parseHeader(file, open.size, json, begin))
    const entry = selectEntry(file, header, names.name, 'name')
    const scales =
      names.scales === undefined ? undefined : selectEntry(file, header, names.scales, 'scales')
    const map = (e: LoadableEntry) => mapEntry(file, device, open.descriptor, header, e)
    const rows = map(entry)
    try {
      return { rows, scales: scales && map(scales) }
    } catch (error) {
      rows.dispose()
      throw error
    }
  })
}

function mapEntry(
  { where, path }: FileContext,
  device: Device,
  descriptor: number,
  { dataStart }: Header,
  { name, dtype, shape, begin }: LoadableEntry,
): Tensor {
  const argument = quoteName(name).slice(1, -1)
  const offset = dataStart + begin
  const { bytes } = dtypeInfo(dtype)
  if (offset % bytes !== 0) {
    const requirement = `begin at a multiple of ${bytes} bytes to be mapped`
    fail('ERR_FILE_FORMAT', where, argument, requirement, String(offset), 'Save the file anew.')
  }
  if (shape.includes(0))
    fail('ERR_SHAPE', where, argument, 'have elements to be mapped', formatShape(shape))
  const code = dtypeCode(where, dtype)
  const handle = native.tensorMap(device.handle, descriptor, path, offset, shape, code)
  return new Tensor(device, handle)
}
