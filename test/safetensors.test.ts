import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type FileProgress,
  loadSafetensors,
  MemoryLayersError,
  openDevice,
  ops,
  readSafetensors,
  saveSafetensors,
  type Tensor,
} from '../lib/index.js'
import { errorOf } from './support/errors.js'
import { fileOf, temporaryFolder } from './support/files.js'

const device = openDevice('cpu')
const folder = temporaryFolder()
const path = join(folder, 'file.safetensors')

test('what is saved is loaded: every dtype, shape, and the metadata', async () => {
  const tensors = {
    a: device.normal([7, 3], { seed: 1 }),
    'b.weight': device.normal([5], { seed: 2, dtype: 'bfloat16' }),
    half: device.normal([2, 2, 2], { seed: 3, dtype: 'float16' }),
    i: device.tensor(new Int32Array([1, -1])),
    q: device.tensor(new Int8Array([1, -1, 3])),
    u: device.tensor(new Uint8Array([1, 255])),
    none: device.zeros([0, 4]),
    scalar: device.tensor([2], []),
  }
  await saveSafetensors(path, tensors, { metadata: { kind: 'test', note: 'ü' } })
  const { tensors: back, metadata } = await readSafetensors(path, { device })
  expect(metadata).toEqual({ kind: 'test', note: 'ü' })
  expect(Object.keys(back)).toEqual(Object.keys(tensors))
  for (const [name, t] of Object.entries(tensors)) {
    expect(back[name]!.dtype).toBe(t.dtype)
    expect(back[name]!.shape).toEqual(t.shape)
    expect(await back[name]!.data()).toEqual(await t.data())
  }
  const header = readFileSync(path)
  expect(Number(header.readBigUInt64LE(0)) % 8).toBe(0)
  expect(readdirSync(folder)).toEqual(['file.safetensors'])
})

test('a file is written and read in chunks, with progress', async () => {
  const big = device.normal([3, 2_000_000], { seed: 4 })
  const small = device.zeros([2])
  const seen: FileProgress[] = []
  await saveSafetensors(path, { big, small }, { onProgress: (p) => seen.push(p) })
  expect(seen.length).toBeGreaterThan(2)
  expect(seen.at(-1)).toEqual({ name: 'small', done: 24_000_008, total: 24_000_008 })
  const loaded = await loadSafetensors(path, { device })
  // As bytes: comparing six million numbers one by one takes half a minute.
  const bytes = async (t: Tensor) => Buffer.from((await t.data()).buffer)
  expect((await bytes(loaded['big']!)).equals(await bytes(big))).toBe(true)
})

test('only the tensors in `names` are read', async () => {
  await saveSafetensors(path, { big: device.zeros([3]), small: device.zeros([2]) })
  const load = (options: object) => () => loadSafetensors(path, { device, ...options })
  expect(Object.keys(await load({ names: ['small'] })())).toEqual(['small'])
  expect(await errorOf('ERR_VALUE', load({ names: ['smal'] }))).toContain('big, small')
  expect(await errorOf('ERR_VALUE', load({ names: 'small' }))).toContain('"names"')
  expect(await errorOf('ERR_DEVICE', load({ device: 'cpu' }))).toContain('"device"')
})

test('a failed save leaves the old file and nothing else', async () => {
  await saveSafetensors(path, { a: device.tensor([1]) })
  const old = readFileSync(path)
  const disposed = device.tensor([2])
  disposed.dispose()
  await errorOf('ERR_DISPOSED', () => saveSafetensors(path, { disposed }))
  await errorOf('ERR_VALUE', () => saveSafetensors(path, {}, { metadata: { n: 1 } as never }))
  for (const tensors of [null, 5])
    await errorOf('ERR_VALUE', () => saveSafetensors(path, tensors as never))
  await errorOf('ERR_OPTION', () => saveSafetensors(path, {}, { metdata: {} } as never))
  // A fault of work that was enqueued before the save is found while it writes.
  const bad = device.tensor(new Int32Array([9]), [1, 1])
  const y = ops.embeddingBag(device.zeros([4, 2]), bad, device.tensor([1], [1, 1]))
  await errorOf('ERR_INDEX_RANGE', () => saveSafetensors(path, { y }))
  expect(readFileSync(path)).toEqual(old)
  expect(readdirSync(folder)).toEqual(['file.safetensors'])
})

describe('a malformed file is refused as a whole', () => {
  const good = { dtype: 'F32', shape: [2], data_offsets: [0, 8] }
  const cases: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    'seven bytes': Buffer.alloc(7),
    'a header longer than the file': fileOf('{}', undefined, 1000n),
    'a header of 2^63 bytes': fileOf('{}', undefined, 2n ** 63n),
    'a header that is not JSON': fileOf('{"a":'),
    'a header that is not UTF-8': Buffer.concat([
      fileOf('', undefined, 2n),
      Buffer.from([0xff, 0xfe]),
    ]),
    'a header that is an array': fileOf([]),
    'metadata that is not strings': fileOf({ __metadata__: { a: 1 } }),
    'an unknown dtype': fileOf({ a: { ...good, dtype: 'F65' } }, new Uint8Array(8)),
    'a dtype of the format that tensors do not have': fileOf(
      { a: { ...good, shape: [1], dtype: 'F64' } },
      new Uint8Array(8),
    ),
    'such a dtype with a shape that does not fit its bytes': fileOf(
      { a: { ...good, dtype: 'F64' } },
      new Uint8Array(8),
    ),
    'no shape': fileOf({ a: { ...good, shape: 3 } }, new Uint8Array(8)),
    'a negative size': fileOf({ a: { ...good, shape: [-2] } }, new Uint8Array(8)),
    'a size that is not an integer': fileOf({ a: { ...good, shape: [0.5, 4] } }, new Uint8Array(8)),
    'a shape that overflows': fileOf(
      { a: { ...good, shape: [2 ** 52, 2 ** 52] } },
      new Uint8Array(8),
    ),
    'offsets that run backwards': fileOf(
      { a: { ...good, data_offsets: [8, 0] } },
      new Uint8Array(8),
    ),
    'offsets beyond the file': fileOf(
      { a: { ...good, shape: [4], data_offsets: [0, 16] } },
      new Uint8Array(8),
    ),
    'truncated data': fileOf({ a: good }, new Uint8Array(7)),
    'bytes that belong to no tensor': fileOf({ a: good }, new Uint8Array(12)),
    'a shape that does not fit its bytes': fileOf(
      { a: { ...good, shape: [3] } },
      new Uint8Array(8),
    ),
    overlap: fileOf({ a: good, b: { ...good, data_offsets: [4, 12] } }, new Uint8Array(12)),
    'a gap': fileOf({ a: good, b: { ...good, data_offsets: [12, 20] } }, new Uint8Array(20)),
    'an entry that is null': fileOf({ a: null }),
  }
  // A device that no other test uses: what it has allocated is what the loading left.
  const unused = openDevice('cpu', { threads: 3 })
  test.each(Object.entries(cases))('%s', async (_, bytes) => {
    writeFileSync(path, bytes)
    const load = () => loadSafetensors(path, { device: unused })
    expect(await errorOf('ERR_FILE_FORMAT', load)).toContain(path)
    expect(unused.memory().allocated).toBe(0)
  })

  test('beside a tensor of an unsupported dtype, others are read by name', async () => {
    const header = {
      count: { dtype: 'I64', shape: [1], data_offsets: [0, 8] },
      a: { ...good, data_offsets: [8, 16] },
    }
    writeFileSync(path, fileOf(header, new Uint8Array(Float32Array.of(0, 0, 3, 4).buffer)))
    const { a } = await loadSafetensors(path, { device, names: ['a'] })
    expect(await a!.data()).toEqual(Float32Array.of(3, 4))
    expect(await errorOf('ERR_FILE_FORMAT', () => loadSafetensors(path, { device }))).toMatch(
      /"count".*got I64/,
    )
    expect(
      await errorOf('ERR_FILE_FORMAT', () => loadSafetensors(path, { device, names: ['count'] })),
    ).toMatch(/"count"/)
  })

  test('any change of one byte gives tensors or ERR_FILE_FORMAT, nothing else', async () => {
    const valid = fileOf(
      { a: good, b: { dtype: 'I8', shape: [3], data_offsets: [8, 11] } },
      new Uint8Array(11),
    )
    await fc.assert(
      fc.asyncProperty(fc.nat(valid.length - 1), fc.nat(255), async (at, value) => {
        const bytes = Buffer.from(valid)
        bytes[at] = value
        writeFileSync(path, bytes)
        try {
          for (const t of Object.values(await loadSafetensors(path, { device }))) t.dispose()
        } catch (error) {
          expect(error).toBeInstanceOf(MemoryLayersError)
          expect((error as MemoryLayersError).code).toBe('ERR_FILE_FORMAT')
        }
      }),
      { numRuns: 200, seed: 11 },
    )
  })
})
