import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { finish } from '../../lib/files/pace.js'
import { MemoryLayersError } from '../../lib/index.js'
import { headerLength, parseHeader } from '../../lib/safetensors-header.js'
import { referenceHeader } from '../reference/safetensors.js'
import { errorOf } from '../support/errors.js'

const file = { where: 'loadSafetensors', path: 'x' }

function parse(json: Buffer, dataBytes: number) {
  const header = finish(parseHeader(file, 8 + json.length + dataBytes, json, Buffer.alloc(0)))
  return {
    tensors: [...header.entries.values()],
    metadata: Object.entries(header.metadata).sort(),
  }
}

/** Both parsers must agree; what is refused is refused with ERR_FILE_FORMAT. */
function compare(json: Buffer, dataBytes: number): boolean {
  const wanted = referenceHeader(json, dataBytes)
  if (!wanted || json[0] !== 0x7b) {
    let error: unknown
    try {
      parse(json, dataBytes)
      headerLength(file, 8 + json.length, Buffer.concat([lengthOf(json.length), json]))
    } catch (e) {
      error = e
    }
    expect(error, json.toString()).toBeInstanceOf(MemoryLayersError)
    expect((error as MemoryLayersError).code).toBe('ERR_FILE_FORMAT')
    return false
  }
  wanted.metadata.sort()
  expect(parse(json, dataBytes)).toEqual(wanted)
  return true
}

function lengthOf(bytes: number): Buffer {
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(bytes))
  return prefix
}

const bits = {
  ...{ F32: 32, F16: 16, BF16: 16, I32: 32, I8: 8, U8: 8, BOOL: 8, F4: 4, F6_E2M3: 6, C64: 64 },
  ...{ F6_E3M2: 6, F8_E8M0: 8, F8_E4M3: 8, F8_E5M2FNUZ: 8, U16: 16, U32: 32, U64: 64, F64: 64 },
  ...{ F8_E4M3FNUZ: 8, F8_E5M2: 8, I16: 16, I64: 64 },
}
const names = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    '__proto__',
    'constructor',
    '',
    '0',
    '10',
    '2',
    '\0',
    '😀',
    '__Metadata__',
  ),
  fc.string({ unit: 'grapheme', maxLength: 6 }),
)
const sizes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 8 })

interface Tensor {
  name: string
  dtype: string
  shape: number[]
  bytes: number
}
const tensors: fc.Arbitrary<Tensor[]> = fc.uniqueArray(
  fc
    .record({ name: names, dtype: fc.constantFrom(...Object.keys(bits), 'F3_LATER'), shape: sizes })
    .map(({ name, dtype, shape }) => {
      const count = shape.reduce((a, b) => a * b, 1)
      return { name, dtype, shape, bytes: (count * (bits[dtype as 'F32'] ?? 40)) / 8 }
    })
    .filter(({ bytes, name }) => Number.isInteger(bytes) && name !== '__metadata__'),
  { selector: (t) => t.name, maxLength: 6 },
)

/** A header in a layout of any order, and the bytes of its data. */
const headers = fc
  .record({
    tensors,
    order: fc.infiniteStream(fc.nat()),
    metadata: fc.option(fc.dictionary(names, fc.string({ unit: 'grapheme', maxLength: 5 }))),
    space: fc.constantFrom('', ' ', '\n', ' \t\r\n '),
  })
  .map(({ tensors, order, metadata, space }) => {
    const keys = new Map(tensors.map((t) => [t, order.next().value]))
    const laid = [...tensors].sort((a, b) => keys.get(a)! - keys.get(b)!)
    const begins = new Map<Tensor, number>()
    let total = 0
    for (const t of laid) {
      begins.set(t, total)
      total += t.bytes
    }
    const fields = tensors.map((t) => {
      const begin = begins.get(t)!
      const shape = JSON.stringify(t.shape)
      const offsets = `[${begin}${space},${begin + t.bytes}]`
      const value = `{"dtype":"${t.dtype}",${space}"shape":${shape},"data_offsets":${offsets}}`
      return `${JSON.stringify(t.name)}:${space}${value}`
    })
    if (metadata) fields.push(`"__metadata__":${JSON.stringify(metadata)}`)
    return { text: `{${fields.join(`${space},`)}}${space}`, total }
  })

describe('the header of a file, beside a parser written apart', () => {
  test('valid ones are read alike', () => {
    fc.assert(
      fc.property(headers, ({ text, total }) => {
        expect(compare(Buffer.from(text), total)).toBe(true)
      }),
      { numRuns: 1000, seed: 1 },
    )
  })

  const snippets = fc.constantFrom(
    ...['"', '\\', '{', '}', '[', ']', ',', ':', ' ', '-', '0', '1', '9', '.', 'e', '00', '-0'],
    ...['1.0', '1e1', '9007199254740992', '18446744073709551616', 'null', 'true', '\\ud800'],
    ...['\u0000', '\ufeff', '"a":', '"dtype":"F32"', '"shape":[1]', '"data_offsets":[0,4]', '{}'],
    ...['[[', '"later":{"x":[1,{}]},', '\\u0041', '\\x', '//', "'"],
  )
  test('changed ones are read alike, or refused by both', () => {
    let accepted = 0
    const run = fc.property(
      headers,
      fc.array(fc.record({ at: fc.nat(), cut: fc.nat(3), put: fc.option(snippets) }), {
        minLength: 1,
        maxLength: 2,
      }),
      fc.constantFrom(0, 0, 0, 1, -1, 8),
      ({ text, total }, changes, more) => {
        let changed = text
        for (const { at, cut, put } of changes) {
          const from = at % (changed.length + 1)
          changed = changed.slice(0, from) + (put ?? '') + changed.slice(from + cut)
        }
        if (compare(Buffer.from(changed), Math.max(0, total + more))) accepted++
      },
    )
    fc.assert(run, { numRuns: 5000, seed: 2 })
    expect(accepted).toBeGreaterThan(50)
  })

  test('any bytes are refused alike', () => {
    fc.assert(
      fc.property(headers, fc.nat(), fc.nat(255), ({ text, total }, at, value) => {
        const json = Buffer.from(text)
        json[at % json.length] = value
        compare(json, total)
      }),
      { numRuns: 2000, seed: 3 },
    )
  })
})

const f32 = (begin: number, end: number, more = '') =>
  `{"dtype":"F32","shape":[${(end - begin) / 4}],"data_offsets":[${begin},${end}]${more}}`
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)

test.each([
  ['a name that comes twice', `{"a":${f32(0, 4)},"a":${f32(4, 8)}}`, 8, /"a" comes twice/],
  ['a name twice, once escaped', `{"a":${f32(0, 4)},"\\u0061":${f32(4, 8)}}`, 8, /twice/],
  ['metadata twice', '{"__metadata__":{},"__metadata__":{}}', 0, /__metadata__ comes twice/],
  ['a field twice', `{"a":${f32(0, 4, ',"shape":[1]')}}`, 4, /"a" has shape twice/],
  ['a million brackets', `{"a":${nested(1_000_000)}}`, 0, /"a" is not described by an object/],
  ['deep values of a field', `{"a":${f32(0, 4, `,"x":${nested(1_000_000)}`)}}`, 4, /nests/],
  ['a million open braces', '{"a":{"b":'.repeat(500_000), 0, /./],
  ['a deep dtype', `{"a":{"dtype":${nested(1_000_000)}}}`, 0, /dtype that is no string/],
  [
    'offsets beyond 2^53',
    '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,9007199254740993]}}',
    0,
    /2\^53/,
  ],
  ['a negative zero', '{"a":{"dtype":"F32","shape":[0],"data_offsets":[-0,0]}}', 0, /2\^53/],
  ['an exponent', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4e0]}}', 4, /2\^53/],
  ['a fraction', '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', 4, /2\^53/],
  ['a huge number', `{"a":{"dtype":"F32","shape":[${'1'.repeat(5_000_000)}]}}`, 4, /2\^53/],
  ['half a surrogate pair', `{"\\ud800":${f32(0, 4)}}`, 4, /surrogate/],
  ['half a byte', '{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}', 2, /whole byte/],
  [
    '2^100 elements of no size',
    '{"a":{"dtype":"F32","shape":[1125899906842624,1125899906842624,0],"data_offsets":[0,0]}}',
    0,
    /2\^50/,
  ],
  ['text after the object', '{} {}', 0, /instead of its end/],
] as const)('%s is refused', async (_, json, dataBytes, reason) => {
  const message = await errorOf('ERR_FILE_FORMAT', () => parse(Buffer.from(json), dataBytes))
  expect(message).toMatch(reason)
  expect(message.length).toBeLessThan(1000)
})

test('long strings and numbers need no stack', () => {
  const name = 'n'.repeat(20_000_000)
  const escaped = '\\n'.repeat(2_000_000)
  const later = `{"${name}":${f32(0, 4, `,"later":[${'9'.repeat(2_000_000)},"${escaped}"]`)}}`
  expect(parse(Buffer.from(later), 4).tensors[0]!.name.length).toBe(name.length)
})
