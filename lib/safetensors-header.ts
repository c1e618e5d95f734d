// The header of a safetensors file: what it may say, and which of its tensors are wanted. Checked
// whole before anything is read.

import { type DType, dtypeRow, dtypes } from './dtype.js'
import { fail, MemoryLayersError } from './errors.js'

const headerLimit = 100 * 2 ** 20

// Bytes of the format's dtypes that tensors here can't have: a file may hold some as long as others
// are asked for.
const foreign: Record<string, number> = {
  F64: 8,
  I64: 8,
  U64: 8,
  U32: 4,
  I16: 2,
  U16: 2,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

const knownTypes = dtypes.map((d) => dtypeRow(d).safetensors).join(', ')

/** A tensor as the header describes it; `begin` and `end` count from where the data starts. */
export interface Entry {
  name: string
  /** As written in the file. */
  type: string
  /** undefined for a foreign one. */
  dtype: DType | undefined
  shape: number[]
  begin: number
  end: number
}

/** Throws ERR_FILE_FORMAT. */
export function bad(where: string, path: string, what: string): never {
  throw new MemoryLayersError(
    'ERR_FILE_FORMAT',
    `${where}: "${path}" is not a sound safetensors file: ${what}.\n  It may be truncated or not a safetensors file; write it again.`,
  )
}

/** The length of the header from the first eight bytes of a file of `size` bytes. */
export function headerLength(where: string, path: string, size: number, prefix: Buffer): number {
  if (size < 8) bad(where, path, `it has ${size} bytes, fewer than the 8 of the header's length`)
  const length = prefix.readBigUInt64LE(0)
  if (length > BigInt(headerLimit) || length > BigInt(size - 8)) {
    bad(where, path, `its header claims ${length} bytes of a file of ${size}`)
  }
  return Number(length)
}

/** The tensors of a header, their ranges checked, its metadata, and where the data starts. */
export function parseHeader(where: string, path: string, size: number, text: Buffer) {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text))
  } catch {
    bad(where, path, 'its header is not JSON')
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    bad(where, path, 'its header is not an object')
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
  if (
    typeof value !== 'object' ||
    value === null ||
    Array.isArray(value) ||
    Object.values(value).some((v) => typeof v !== 'string')
  ) {
    bad(where, path, 'its __metadata__ is not an object of strings')
  }
  return value as Record<string, string>
}

function readEntry(where: string, path: string, name: string, value: unknown): Entry {
  const entry = (typeof value === 'object' && value !== null ? value : {}) as {
    dtype?: unknown
    shape?: unknown
    data_offsets?: unknown
  }
  const type = typeof entry.dtype === 'string' ? entry.dtype : ''
  const dtype = dtypes.find((d) => dtypeRow(d).safetensors === entry.dtype)
  const each = dtype ? dtypeRow(dtype).bytes : Object.hasOwn(foreign, type) ? foreign[type]! : 0
  if (each === 0)
    bad(
      where,
      path,
      `tensor "${name}" has dtype ${JSON.stringify(entry.dtype)}; known are ${knownTypes}`,
    )
  const whole = (v: unknown): v is number =>
    typeof v === 'number' && Number.isSafeInteger(v) && v >= 0
  const shape = entry.shape
  if (!Array.isArray(shape) || !shape.every(whole) || shape.length > 6)
    bad(where, path, `tensor "${name}" has no sound shape`)
  const [begin, end] =
    Array.isArray(entry.data_offsets) && entry.data_offsets.length === 2
      ? entry.data_offsets
      : [1, 0]
  if (!whole(begin) || !whole(end) || begin > end)
    bad(where, path, `tensor "${name}" has no sound data_offsets`)
  const bytes = shape.reduce((a: number, b: number) => a * b, each)
  if (bytes !== end - begin) {
    bad(
      where,
      path,
      `tensor "${name}" ${type} [${shape.join(', ')}] needs ${bytes} bytes but has ${end - begin}`,
    )
  }
  return { name, type, dtype, shape, begin, end }
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

/** The entries of the names, all without names, each of a dtype that a tensor can have. */
export function select(
  where: string,
  path: string,
  entries: readonly Entry[],
  names: readonly string[] | undefined,
  argument = 'names',
): (Entry & { dtype: DType })[] {
  const wanted = names?.map((name) => {
    const entry = entries.find((e) => e.name === name)
    if (!entry)
      fail(
        'ERR_VALUE',
        where,
        argument,
        `be among the tensors of "${path}"`,
        name,
        `It has: ${entries.map((e) => e.name).join(', ')}.`,
      )
    return entry
  })
  return (wanted ?? entries).map((entry) => {
    const { name, type, dtype } = entry
    if (!dtype)
      throw new MemoryLayersError(
        'ERR_FILE_FORMAT',
        `${where}: tensor "${name}" of "${path}" must be one of ${knownTypes}, got ${type}.\n  Leave it out by "names", or write the file with another dtype.`,
      )
    return { ...entry, dtype }
  })
}
