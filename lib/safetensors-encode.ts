// The header of a safetensors file that is written. What could not be read again is refused.

import { isObject } from './describe.js'
import { dtypeInfo } from './dtype.js'
import { fail } from './errors.js'
import { isWellFormed } from './files/json-reader.js'
import { headerLimit, isCountable, quoteName } from './safetensors-header.js'
import type { StateDict } from './state-dict.js'
import { type Tensor, tensorHandle } from './tensor.js'

/** What a file will hold. */
export interface EncodedHeader {
  /** The file's first bytes. */
  header: Buffer
  /** In the order of the file. */
  ordered: [name: string, tensor: Tensor][]
  /** Bytes of all tensors. */
  total: number
}

/** The header of tensors and metadata. @throws ERR_VALUE, ERR_DTYPE, ERR_DISPOSED */
export function encodeHeader(
  where: string,
  tensors: StateDict,
  metadata: Record<string, string> | undefined,
): EncodedHeader {
  const text = new HeaderText(where)
  if (metadata !== undefined) text.add('__metadata__', encodeMetadata(where, metadata))
  const named = ownEntries(where, 'tensors', tensors, 'tensors')
  for (const [name, tensor] of named) checkTensor(where, name, tensor)
  const ordered = widestFirst(named)
  const offsets = new Map<string, number>()
  let total = 0
  for (const [name, tensor] of ordered) {
    offsets.set(name, total)
    total += tensor.byteLength
  }
  for (const [name, tensor] of named) {
    const begin = offsets.get(name) ?? 0
    const fields = {
      dtype: dtypeInfo(tensor.dtype).safetensors,
      shape: tensor.shape,
      data_offsets: [begin, begin + tensor.byteLength],
    }
    text.add(name, JSON.stringify(fields))
  }
  return { header: text.bytes(), ordered, total }
}

/** The fields of the header, as JSON; no longer than the format allows. */
class HeaderText {
  readonly #where: string
  readonly #fields: string[] = []
  #length = 1

  constructor(where: string) {
    this.#where = where
  }

  add(name: string, json: string): void {
    const field = `${quoted(name) ?? this.#tooLong()}:${json}`
    this.#length += field.length + 1
    if (this.#length > headerLimit) this.#tooLong() // a string has a limit of its own
    this.#fields.push(field)
  }

  /** The length, and the text up to a multiple of 8 bytes. */
  bytes(): Buffer {
    const json = Buffer.from(`{${this.#fields.join(',')}}`)
    const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
    if (header.length - 8 > headerLimit) this.#tooLong()
    header.writeBigUInt64LE(BigInt(header.length - 8), 0)
    json.copy(header, 8)
    return header
  }

  #tooLong(): never {
    const requirement = `have a header of at most ${headerLimit} bytes in all`
    const hint = 'Shorten names and metadata, or write several files.'
    fail('ERR_VALUE', this.#where, 'tensors', requirement, 'more', hint)
  }
}

/** As JSON; undefined where that is longer than a string can be. */
function quoted(text: string): string | undefined {
  try {
    return JSON.stringify(text)
  } catch {
    return undefined
  }
}

function checkTensor(where: string, name: string, tensor: Tensor): void {
  tensorHandle(where, quoteName(name).slice(1, -1), tensor)
  if (name === '__metadata__')
    fail('ERR_VALUE', where, 'tensors', 'not use the reserved name', name)
  checkText(where, 'tensors', name)
  if (!isCountable(tensor.shape)) {
    const requirement = 'have at most 2^50 elements, axes of size 0 apart'
    fail('ERR_VALUE', where, quoteName(name).slice(1, -1), requirement, tensor.toString())
  }
}

function checkText(where: string, argument: string, text: string): void {
  if (isWellFormed(text)) return
  const requirement = 'hold no half of a surrogate pair, which UTF-8 can not write'
  fail('ERR_VALUE', where, argument, requirement, quoteName(text))
}

/**
 * The entries of a plain object: what it inherits, and what a Map or an array holds, would be left
 * out.
 */
function ownEntries<T>(
  where: string,
  argument: string,
  value: Record<string, T>,
  what: string,
): [string, T][] {
  const prototype = isObject(value) ? Object.getPrototypeOf(value) : undefined
  // Object.prototype of any realm
  if (!isObject(value) || (prototype !== null && Object.getPrototypeOf(prototype) !== null)) {
    const hint = 'Pass an object literal, or one of Object.fromEntries().'
    fail('ERR_VALUE', where, argument, `be a plain object of ${what} by name`, value, hint)
  }
  return Object.entries(value)
}

function encodeMetadata(where: string, metadata: Record<string, string>): string {
  const fields: string[] = []
  let length = 0
  for (const [name, value] of ownEntries(where, 'metadata', metadata, 'strings')) {
    const argument = `metadata.${quoteName(name).slice(1, -1)}`
    if (typeof value !== 'string') fail('ERR_VALUE', where, argument, 'be a string', value)
    checkText(where, argument, name)
    checkText(where, argument, value)
    const [quotedName, quotedValue] = [quoted(name), quoted(value)]
    length += (quotedName?.length ?? Infinity) + (quotedValue?.length ?? Infinity)
    if (length > headerLimit)
      fail('ERR_VALUE', where, 'metadata', `have at most ${headerLimit} bytes`, 'more')
    fields.push(`${quotedName}:${quotedValue}`)
  }
  return `{${fields.join(',')}}`
}

// Wide elements before narrow ones: each tensor then begins at a multiple of its element's size, so
// that any can be mapped.
function widestFirst(named: readonly [string, Tensor][]): [string, Tensor][] {
  const bytes = (t: Tensor) => dtypeInfo(t.dtype).bytes
  return [...named].sort(([, a], [, b]) => bytes(b) - bytes(a))
}
