// The header of a safetensors file: what it may say, and which of its tensors are selected. Checked
// whole before anything is read.

import { type DType, dtypeInfo, dtypes } from './dtype.js'
import { fail, MemoryLayersError } from './errors.js'

const headerLimit = 100 * 2 ** 20

// Bytes of the format's dtypes that tensors here can't have: a file may contain tensors of these
// dtypes as long as they are not selected.
const foreignBytes = new Map([
  ['F64', 8],
  ['I64', 8],
  ['U64', 8],
  ['U32', 4],
  ['I16', 2],
  ['U16', 2],
  ['BOOL', 1],
  ['F8_E4M3', 1],
  ['F8_E5M2', 1],
])

const knownTypes = dtypes.map((d) => dtypeInfo(d).safetensors).join(', ')

/** A tensor as the header describes it; `begin` and `end` are offsets in the data. */
export interface Entry {
  name: string
  /** As written in the file. */
  type: string
  /** undefined for one that tensors here can't have. */
  dtype: DType | undefined
  shape: number[]
  begin: number
  end: number
}

/** Throws ERR_FILE_FORMAT. */
export function failFormat(where: string, path: string, reason: string): never {
  const hint = 'It may be truncated or not a safetensors file; write it again.'
  throw new MemoryLayersError(
    'ERR_FILE_FORMAT',
    `${where}: "${path}" is not a valid safetensors file: ${reason}.\n  ${hint}`,
  )
}

/** The length of the header from the first eight bytes of a file of `size` bytes. */
export function headerLength(where: string, path: string, size: number, prefix: Buffer): number {
  if (size < 8)
    failFormat(where, path, `it has ${size} bytes, fewer than the 8 of the header's length`)
  const length = prefix.readBigUInt64LE(0)
  if (length > BigInt(headerLimit) || length > BigInt(size - 8)) {
    failFormat(where, path, `its header claims ${length} bytes of a file of ${size}`)
  }
  return Number(length)
}

export interface Header {
  entries: readonly Entry[]
  metadata: Record<string, string>
  /** Offset of the data in the file. */
  dataStart: number
}

/** Parses and checks the header of a file of `size` bytes. */
export function parseHeader(where: string, path: string, size: number, json: Buffer): Header {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json))
  } catch {
    failFormat(where, path, 'its header is not JSON')
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    failFormat(where, path, 'its header is not an object')
  const dataStart = 8 + json.length
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
    failFormat(where, path, 'its __metadata__ is not an object of strings')
  }
  return value as Record<string, string>
}

function readEntry(where: string, path: string, name: string, value: unknown): Entry {
  const fields: { dtype?: unknown; shape?: unknown; data_offsets?: unknown } =
    typeof value === 'object' && value !== null ? value : {}
  const type = typeof fields.dtype === 'string' ? fields.dtype : ''
  const dtype = dtypes.find((d) => dtypeInfo(d).safetensors === type)
  const elementBytes = dtype ? dtypeInfo(dtype).bytes : foreignBytes.get(type)
  if (elementBytes === undefined) {
    const found = JSON.stringify(fields.dtype)
    failFormat(where, path, `tensor "${name}" has dtype ${found}; known are ${knownTypes}`)
  }
  const shape = fields.shape
  if (!isSizes(shape) || shape.length > 6)
    failFormat(where, path, `tensor "${name}" has no valid shape`)
  const [begin, end, ...rest] = isSizes(fields.data_offsets) ? fields.data_offsets : []
  if (begin === undefined || end === undefined || rest.length > 0 || begin > end)
    failFormat(where, path, `tensor "${name}" has no valid data_offsets`)
  const bytes = shape.reduce((a, b) => a * b, elementBytes)
  if (bytes !== end - begin) {
    const tensor = `tensor "${name}" ${type} [${shape.join(', ')}]`
    failFormat(where, path, `${tensor} needs ${bytes} bytes but has ${end - begin}`)
  }
  return { name, type, dtype, shape, begin, end }
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((v) => Number.isSafeInteger(v) && v >= 0)
}

// The format demands that the tensors fill the data without holes or overlap.
function checkRanges(where: string, path: string, entries: readonly Entry[], size: number): void {
  let covered = 0
  for (const e of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (e.begin < covered) failFormat(where, path, `tensor "${e.name}" overlaps the one before it`)
    if (e.begin > covered) failFormat(where, path, `there is a hole before tensor "${e.name}"`)
    covered = e.end
  }
  if (covered !== size)
    failFormat(where, path, `its tensors need ${covered} bytes but ${size} follow the header`)
}

/** An entry of a dtype that a tensor can have. */
export type LoadableEntry = Entry & { dtype: DType }

/** The entries of the names, or all entries without names. @throws ERR_VALUE, ERR_FILE_FORMAT */
export function selectEntries(
  where: string,
  path: string,
  entries: readonly Entry[],
  names: readonly string[] | undefined,
): LoadableEntry[] {
  const selected = names?.map((name) => findEntry(where, path, entries, name, 'names')) ?? entries
  return selected.map((entry) => checkDType(where, path, entry))
}

/** The entry of a name. @throws ERR_VALUE, ERR_FILE_FORMAT */
export function selectEntry(
  where: string,
  path: string,
  entries: readonly Entry[],
  name: string,
  argument: string,
): LoadableEntry {
  return checkDType(where, path, findEntry(where, path, entries, name, argument))
}

function findEntry(
  where: string,
  path: string,
  entries: readonly Entry[],
  name: string,
  argument: string,
): Entry {
  const entry = entries.find((e) => e.name === name)
  if (!entry) {
    const hint = `It has: ${entries.map((e) => e.name).join(', ')}.`
    fail('ERR_VALUE', where, argument, `be among the tensors of "${path}"`, name, hint)
  }
  return entry
}

function checkDType(where: string, path: string, entry: Entry): LoadableEntry {
  const { name, type, dtype } = entry
  if (dtype) return { ...entry, dtype }
  const hint = 'Leave it out by "names", or write the file with another dtype.'
  throw new MemoryLayersError(
    'ERR_FILE_FORMAT',
    `${where}: tensor "${name}" of "${path}" must be one of ${knownTypes}, got ${type}.\n  ${hint}`,
  )
}
