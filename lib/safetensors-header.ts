// The header of a safetensors file: what it may say, and which of its tensors are selected. Checked
// whole before anything is read.

import { type DType, dtypeInfo, dtypes } from './dtype.js'
import { fail, MemoryLayersError } from './errors.js'
import { JsonReader } from './files/json-reader.js'
import type { FileContext } from './files/system.js'
import { failFormat } from './safetensors-formats.js'

/** The format's limit on the bytes of the header. */
export const headerLimit = 100_000_000
/** Elements of one tensor. */
const elementLimit = 2 ** 50
/** Axes of a tensor here; a file may have tensors of more as long as they are not selected. */
const maxAxes = 6

// Bits of the format's dtypes that tensors here can't have: a file may have tensors of these, and
// of dtypes that the format gets later, as long as they are not selected.
const foreignBits = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['F8_E4M3', 8],
  ['F8_E5M2', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['U32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
])

const dtypeOfType = new Map(dtypes.map((d) => [dtypeInfo(d).safetensors, d]))
const knownTypes = [...dtypeOfType.keys()].join(', ')

/** A tensor as the header describes it; `begin` and `end` are offsets in the data. */
export interface Entry {
  readonly name: string
  /** As written in the file. */
  readonly type: string
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

/** What the header says. */
export interface Header {
  /** By name, in the order of the header. */
  entries: ReadonlyMap<string, Entry>
  metadata: Record<string, string>
  /** Offset of the data in the file. */
  dataStart: number
}

/** The length of the header of a file of `size` bytes that begins with `begin`. */
export function headerLength(file: FileContext, size: number, begin: Buffer): number {
  if (size === 0) failFormat(file, 'it is empty')
  if (size < 8)
    failFormat(file, `it has ${size} bytes, fewer than the 8 of the header's length`, begin)
  const length = begin.readBigUInt64LE(0)
  if (length > BigInt(size - 8))
    failFormat(file, `its header claims ${length} bytes of a file of ${size}`, begin)
  if (length > BigInt(headerLimit))
    failFormat(file, `its header has ${length} bytes, more than the ${headerLimit} allowed`, begin)
  if (begin.length > 8 && length > 0n && begin[8] !== 0x7b)
    failFormat(file, 'its header does not begin with "{"', begin)
  return Number(length)
}

/** A name in a message: quoted, and cut where it is long. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 79)}…` : name)
}

/**
 * Parses and checks the header of a file of `size` bytes that begins with `begin`. Pauses at every
 * tensor.
 */
export function* parseHeader(
  file: FileContext,
  size: number,
  json: Buffer,
  begin: Buffer,
): Generator<void, Header> {
  const refuse = (reason: string): never => failFormat(file, reason, begin)
  const reader = new JsonReader(decode(json, refuse), refuse)
  const entries = new Map<string, Entry>()
  let metadata: Record<string, string> | undefined
  for (const name of reader.fields()) {
    if (name === '__metadata__') {
      if (metadata) failFormat(file, 'its __metadata__ comes twice')
      metadata = readMetadata(file, reader)
    } else {
      if (entries.has(name)) failFormat(file, `tensor ${quoteName(name)} comes twice`)
      entries.set(name, readEntry(file, reader, name))
    }
    yield
  }
  reader.end()
  const dataStart = 8 + json.length
  checkRanges(file, entries, size - dataStart)
  return { entries, metadata: metadata ?? {}, dataStart }
}

function decode(json: Buffer, refuse: (reason: string) => never): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json)
  } catch {
    refuse('its header is not UTF-8')
  }
}

function readMetadata(file: FileContext, reader: JsonReader): Record<string, string> {
  const metadata = new Map<string, string>()
  const wrong = 'its __metadata__ is not an object of strings'
  if (reader.peek() !== '{') failFormat(file, wrong)
  for (const name of reader.fields()) {
    if (reader.peek() !== '"') failFormat(file, wrong)
    if (metadata.has(name)) failFormat(file, `its __metadata__ has ${quoteName(name)} twice`)
    metadata.set(name, reader.string())
  }
  return Object.fromEntries(metadata)
}

/** Fields that the format does not know are left to later versions of it. */
function readEntry(file: FileContext, reader: JsonReader, name: string): Entry {
  const tensor = `tensor ${quoteName(name)}`
  if (reader.peek() !== '{') failFormat(file, `${tensor} is not described by an object`)
  let type: string | undefined
  let shape: number[] | undefined
  let offsets: number[] | undefined
  for (const field of reader.fields()) {
    const given = { dtype: type, shape, data_offsets: offsets }[field]
    if (given !== undefined) failFormat(file, `${tensor} has ${field} twice`)
    if (field === 'dtype') {
      if (reader.peek() !== '"') failFormat(file, `${tensor} has a dtype that is no string`)
      type = reader.string()
    } else if (field === 'shape') {
      shape = readSizes(file, reader, `${tensor} has no valid shape`)
    } else if (field === 'data_offsets') {
      offsets = readSizes(file, reader, `${tensor} has no valid data_offsets`)
    } else {
      reader.skip()
    }
  }
  if (type === undefined) failFormat(file, `${tensor} has no dtype`)
  if (shape === undefined) failFormat(file, `${tensor} has no shape`)
  const [begin, end, ...rest] = offsets ?? []
  if (begin === undefined || end === undefined || rest.length > 0 || begin > end)
    failFormat(file, `${tensor} has no valid data_offsets`)
  checkBytes(file, tensor, type, shape, end - begin)
  return { name, type, shape, begin, end }
}

function readSizes(file: FileContext, reader: JsonReader, wrong: string): number[] {
  if (reader.peek() !== '[') failFormat(file, `${wrong}: it is not an array`)
  const sizes: number[] = []
  for (const _ of reader.items())
    sizes.push(
      reader.integer() ?? failFormat(file, `${wrong}: it must hold integers from 0 to 2^53 - 1`),
    )
  return sizes
}

/** Whether the elements of a shape can be counted, an axis of size 0 apart. */
export function isCountable(shape: readonly number[]): boolean {
  return shape.reduce((count, size) => (size === 0 ? count : count * size), 1) <= elementLimit
}

// The size of a dtype that is not known can't be checked.
function checkBytes(
  file: FileContext,
  tensor: string,
  type: string,
  shape: readonly number[],
  found: number,
): void {
  const dtype = dtypeOfType.get(type)
  const bits = dtype ? 8 * dtypeInfo(dtype).bytes : foreignBits.get(type)
  const listed = `[${shape.slice(0, 16).join(', ')}${shape.length > 16 ? ', …' : ''}]`
  if (!isCountable(shape)) failFormat(file, `${tensor} ${listed} has more than 2^50 elements`)
  if (bits === undefined) return
  const bytes = (shape.reduce((a, b) => a * b, 1) * bits) / 8
  const described = `${tensor} ${quoteName(type).slice(1, -1)} ${listed}`
  if (!Number.isInteger(bytes)) failFormat(file, `${described} does not end with a whole byte`)
  if (bytes !== found) failFormat(file, `${described} needs ${bytes} bytes but has ${found}`)
}

// The format demands that the tensors fill the data without holes or overlap.
function checkRanges(file: FileContext, entries: ReadonlyMap<string, Entry>, size: number): void {
  let covered = 0
  for (const e of [...entries.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const tensor = `tensor ${quoteName(e.name)}`
    if (e.begin < covered) failFormat(file, `${tensor} overlaps the one before it`)
    if (e.begin > covered) failFormat(file, `there is a hole before ${tensor}`)
    covered = e.end
  }
  if (covered !== size)
    failFormat(file, `its tensors need ${covered} bytes but ${size} follow the header`)
}

/** An entry of a dtype and shape that a tensor can have. */
export type LoadableEntry = Entry & { readonly dtype: DType }

/** The entries of the names, or all entries without names. @throws ERR_VALUE, ERR_FILE_FORMAT */
export function selectEntries(
  file: FileContext,
  header: Header,
  names: ReadonlySet<string> | undefined,
): LoadableEntry[] {
  const selected = names
    ? Array.from(names, (name) => findEntry(file, header, name, 'names'))
    : Array.from(header.entries.values())
  return selected.map((entry) => checkLoadable(file, entry))
}

/** The entry of a name. @throws ERR_VALUE, ERR_FILE_FORMAT */
export function selectEntry(
  file: FileContext,
  header: Header,
  name: string,
  argument: string,
): LoadableEntry {
  return checkLoadable(file, findEntry(file, header, name, argument))
}

function findEntry(file: FileContext, header: Header, name: string, argument: string): Entry {
  const entry = header.entries.get(name)
  if (entry) return entry
  const listed: string[] = []
  for (const known of header.entries.keys()) {
    if (listed.length === 20) break
    listed.push(known.length > 80 ? `${known.slice(0, 79)}…` : known)
  }
  const more = header.entries.size - listed.length
  const hint = `It has: ${listed.join(', ')}${more > 0 ? `, and ${more} more` : ''}.`
  const requirement = `be among the tensors of "${file.path}"`
  fail('ERR_VALUE', file.where, argument, requirement, quoteName(name), hint)
}

function checkLoadable(file: FileContext, entry: Entry): LoadableEntry {
  const dtype = dtypeOfType.get(entry.type)
  const tooMany = entry.shape.length > maxAxes
  if (dtype && !tooMany) return { ...entry, dtype }
  const tensor = `${file.where}: tensor ${quoteName(entry.name)} of "${file.path}"`
  const text = tooMany
    ? `${tensor} must have at most ${maxAxes} axes, got ${entry.shape.length}`
    : `${tensor} must be one of ${knownTypes}, got ${quoteName(entry.type).slice(1, -1)}`
  const hint = 'Leave it out by "names", or write the file anew.'
  throw new MemoryLayersError('ERR_FILE_FORMAT', `${text}.\n  ${hint}`)
}
