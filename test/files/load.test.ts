import { appendFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { loadSafetensors, openDevice, saveSafetensors, ValueTable } from '../../lib/index.js'
import { errorOf } from '../support/errors.js'
import { fileOf, temporaryFolder } from '../support/files.js'

const device = openDevice('cpu')
const folder = temporaryFolder()
const path = join(folder, 'x')
const data = (bytes: number) => new Uint8Array(bytes)

describe('a file of another kind is called by its name', () => {
  const long = data(600)
  const text = (head: string) => Buffer.concat([Buffer.from(head, 'latin1'), long])
  test.each<[RegExp, Buffer]>([
    [/zip archive, as torch\.save/, text('PK\x03\x04\x00\x00\x08\x08')],
    [/pickle/, text('\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.')],
    [/pickle/, text('\x80\x04\x95\x10\x00\x00\x00')],
    [/GGUF/, text('GGUF\x03\x00\x00\x00')],
    [/GGML/, text('lmgg\x01\x00\x00\x00')],
    [/NumPy array/, text('\x93NUMPY\x01\x00v\x00')],
    [/HDF5/, text('\x89HDF\r\n\x1a\n')],
    [/TensorFlow Lite/, text('\x1c\x00\x00\x00TFL3')],
    [/Git LFS pointer/, Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:1\n')],
    [/web page/, Buffer.from('\n<!DOCTYPE html><html><body>404</body></html>')],
    [
      /web page or XML/,
      Buffer.from('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    ],
    [/JSON text, perhaps the index/, Buffer.from('{"metadata":{},"weight_map":{}}')],
    [/gzip/, gzipSync('x'.repeat(100))],
    [/Zstandard/, text('\x28\xb5\x2f\xfd\x04')],
    [/xz/, text('\xfd7zXZ\x00\x00')],
    [/bzip2/, text('BZh91AY&SY')],
    [/filled with zeros/, Buffer.alloc(4096)],
    [/text, perhaps an error message/, Buffer.from('Entry not found\n')],
    [/text/, Buffer.from('404')],
    [/it is empty/, Buffer.alloc(0)],
  ])('%s', async (name, bytes) => {
    writeFileSync(path, bytes)
    const message = await errorOf('ERR_FILE_FORMAT', () => loadSafetensors(path, { device }))
    expect(message).toMatch(name)
    if (!/empty/.test(name.source)) expect(message).not.toContain('truncated')
    await errorOf('ERR_FILE_FORMAT', () => ValueTable.map(path, 'x', { device }))
  })
})

describe('beside tensors that are not supported, others are read', () => {
  const good = { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] }
  test.each<[string, number[], number]>([
    ['F4', [8], 4],
    ['F6_E2M3', [4], 3],
    ['F8_E8M0', [8], 8],
    ['F8_E5M2FNUZ', [8], 8],
    ['C64', [2], 16],
    ['U16', [2], 4],
    ['U64', [2], 16],
    ['BIG_LATER_TYPE', [3, 5], 77],
    ['F32', [1, 1, 1, 1, 1, 1, 2], 8],
  ])('%s %j', async (dtype, shape, bytes) => {
    const q = { dtype, shape, data_offsets: [8, 8 + bytes] }
    const values = new Uint8Array(Float32Array.of(3, 4).buffer)
    const header = JSON.stringify({ q, w: good })
    const aligned = header.padEnd(Math.ceil(header.length / 8) * 8) // for map
    writeFileSync(path, fileOf(aligned, Buffer.concat([values, data(bytes)])))
    const { w, ...rest } = await loadSafetensors(path, { device, names: ['w', 'w'] })
    expect([await w!.data(), Object.keys(rest)]).toEqual([Float32Array.of(3, 4), []])
    const table = ValueTable.map(path, 'w', { device })
    expect(await table.weight.data()).toEqual(Float32Array.of(3, 4))
    for (const read of [
      () => loadSafetensors(path, { device }),
      () => loadSafetensors(path, { device, names: ['q'] }),
      () => ValueTable.map(path, 'q', { device }),
    ])
      expect(await errorOf('ERR_FILE_FORMAT', read)).toMatch(
        dtype === 'F32' ? /"q".* at most 6 axes, got 7/ : new RegExp(`"q".*got ${dtype}`),
      )
  })
})

describe('a file that changes while it is read is refused', () => {
  const changes: Record<string, () => void> = {
    appended: () => appendFileSync(path, 'x'),
    truncated: () => truncateSync(path, 20_000_000),
    touched: () => utimesSync(path, 1, 1),
  }
  test.each(Object.entries(changes))('%s', async (_, change) => {
    await saveSafetensors(path, { x: device.zeros([10_000_000]) })
    const own = openDevice('cpu', { threads: 1 })
    const before = own.memory().allocated
    let first = true
    const onProgress = () => {
      if (first) change()
      first = false
    }
    await errorOf('ERR_FILE_FORMAT', () => loadSafetensors(path, { device: own, onProgress }))
    expect(own.memory().allocated).toBe(before)
  })
})

test('what onProgress throws ends a load and a save', async () => {
  await saveSafetensors(path, { x: device.tensor([1]) })
  const onProgress = () => {
    throw new RangeError('enough')
  }
  await expect(loadSafetensors(path, { onProgress })).rejects.toThrow('enough')
  await expect(saveSafetensors(path, {}, { onProgress: 3 as never })).rejects.toThrow('onProgress')
  const save = saveSafetensors(path, { x: device.tensor([2]) }, { onProgress })
  await expect(save).rejects.toThrow('enough')
  const { x } = await loadSafetensors(path, { device })
  expect(await x!.data()).toEqual(Float32Array.of(1))
})

test('200,000 tensors are saved and read, and one of them', { timeout: 300_000 }, async () => {
  const count = 200_000
  const all = device.tensor(Float32Array.from({ length: count }, (_, i) => i))
  const tensors = Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`layers.${i}.weight`, all.rows(i, i + 1)]),
  )
  await saveSafetensors(path, tensors)
  const loaded = await loadSafetensors(path, { device })
  expect(Object.keys(loaded)).toEqual(Object.keys(tensors))
  for (const i of [0, 1, 77_777, count - 1])
    expect(await loaded[`layers.${i}.weight`]!.data()).toEqual(Float32Array.of(i))
  const names = Object.keys(tensors).reverse()
  expect(Object.keys(await loadSafetensors(path, { device, names })).length).toBe(count)
  const missing = () => loadSafetensors(path, { device, names: ['layers.x.weight'] })
  expect((await errorOf('ERR_VALUE', missing)).length).toBeLessThan(1000)
})

test('names that are far apart in the file, and tensors across chunks', async () => {
  const sizes = [3_000_000, 5, 4_000_000, 1, 0, 2_500_000, 7]
  const tensors = Object.fromEntries(
    sizes.map((size, i) => [`t${i}`, device.normal([size], { seed: i })]),
  )
  await saveSafetensors(path, tensors)
  for (const names of [Object.keys(tensors), ['t6', 't1', 't4', 't3'], ['t5'], []]) {
    const loaded = await loadSafetensors(path, { device, names })
    expect(Object.keys(loaded)).toEqual(names)
    for (const name of names) {
      const [got, wanted] = [await loaded[name]!.data(), await tensors[name]!.data()]
      expect(Buffer.from(got.buffer).equals(Buffer.from(wanted.buffer)), name).toBe(true)
      loaded[name]!.dispose()
    }
  }
})
