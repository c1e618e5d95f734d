import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  loadSafetensors,
  openDevice,
  readSafetensors,
  type StateDict,
  saveSafetensors,
} from '../../lib/index.js'
import { errorOf } from '../support/errors.js'
import { temporaryFolder } from '../support/files.js'

const device = openDevice('cpu')
const folder = temporaryFolder()
const path = join(folder, 'x')
const t = device.tensor([1, 2])

function named(entries: [string, unknown][]): StateDict {
  return Object.fromEntries(entries) as StateDict // also for "__proto__"
}

test('any name is saved and read, or refused', async () => {
  const names = fc.oneof(
    fc.constantFrom('__proto__', 'constructor', 'toJSON', 'then', '', '0', '10', '-1', '\0', '"'),
    fc.string({ unit: 'binary', maxLength: 8 }),
    fc.string({ unit: fc.constantFrom('\ud800', '\udc00', 'a') }),
  )
  const run = fc.asyncProperty(
    fc.uniqueArray(names, { maxLength: 5 }),
    fc.uniqueArray(names, { maxLength: 3 }),
    async (tensorNames, metadataNames) => {
      const tensors = named(tensorNames.map((name) => [name, t]))
      const metadata = named(metadataNames.map((name) => [name, `of ${name}`]))
      const save = () => saveSafetensors(path, tensors, { metadata: metadata as never })
      const whole = [...tensorNames, ...metadataNames].every(
        (name) => Buffer.from(name).toString() === name,
      )
      if (!whole) {
        expect(await errorOf('ERR_VALUE', save)).toContain('surrogate')
        return
      }
      await save()
      const back = await readSafetensors(path, { device })
      expect(Object.entries(back.metadata)).toEqual(Object.entries(metadata))
      expect(Object.keys(back.tensors)).toEqual(Object.keys(tensors))
      for (const tensor of Object.values(back.tensors)) {
        expect(tensor.shape).toEqual([2])
        tensor.dispose()
      }
      const some = await loadSafetensors(path, { device, names: tensorNames.slice(0, 1) })
      expect(Object.keys(some)).toEqual(tensorNames.slice(0, 1))
    },
  )
  await fc.assert(run, { numRuns: 60, seed: 5 })
})

test('what is saved does not reach the prototype of what is read', async () => {
  await saveSafetensors(path, named([['__proto__', t]]), {
    metadata: named([['__proto__', 'x']]) as never,
  })
  const { tensors, metadata } = await readSafetensors(path, { device })
  for (const object of [tensors, metadata] as object[]) {
    expect(Object.getPrototypeOf(object)).toBe(Object.prototype)
    expect(Object.hasOwn(object, '__proto__')).toBe(true)
  }
})

class Named {
  a = 'b'
}
test.each<[string, unknown]>([
  ['a string', 'text'],
  ['a String object', new String('text')],
  ['an array', ['text']],
  ['null', null],
  ['a number', 3],
  ['a function', () => ({})],
  ['a Map', new Map([['a', 'b']])],
  ['a Date, which has toJSON', new Date()],
  ['an object of a class', new Named()],
  ['an object that inherits', Object.create({ a: 'b' })],
  ['a typed array', new Uint8Array(2)],
  ['a number as a value', { a: 1 }],
  ['undefined as a value', { a: undefined }],
  ['an object as a value', { a: {} }],
  ['a String as a value', { a: new String('b') }],
  ['a method toJSON', { a: 'b', toJSON: () => ({}) }],
  ['half of a surrogate pair as a value', { a: '\ud83d' }],
  ['half of a surrogate pair as a name', { '\ude00': 'a' }],
  ['too long a value', { a: 'x'.repeat(100_000_001) }],
  ['too long a value for a string of JSON', { a: '\0'.repeat(95_000_000) }],
])('metadata that is %s is refused before anything is written', async (_, metadata) => {
  const save = () => saveSafetensors(join(folder, 'new'), { t }, { metadata: metadata as never })
  expect((await errorOf('ERR_VALUE', save)).length).toBeLessThan(600)
  expect(existsSync(join(folder, 'new'))).toBe(false)
  expect(readdirSync(folder)).not.toContain('new')
})

test.each<[string, unknown]>([
  ['an object without a prototype', Object.assign(Object.create(null), { a: 'b' })],
  ['an object of another realm', runInNewContext('({ a: "b" })')],
  ['a string named toJSON', { toJSON: 'b' }],
])('metadata that is %s is saved', async (_, metadata) => {
  await saveSafetensors(path, { t }, { metadata: metadata as never })
  expect((await readSafetensors(path, { device })).metadata).toEqual({ ...(metadata as object) })
})

test.each<[string, unknown]>([
  ['an array', [t]],
  ['a Map', new Map([['t', t]])],
  ['a string', 'text'],
  ['a tensor', t],
  ['an object that inherits', Object.create({ t })],
  ['the reserved name', { __metadata__: t }],
])('tensors that are %s are refused', async (_, tensors) => {
  await errorOf('ERR_VALUE', () => saveSafetensors(join(folder, 'new'), tensors as never))
  expect(existsSync(join(folder, 'new'))).toBe(false)
})

test('a header of the greatest length is read again; a longer one is refused', async () => {
  const field = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'.length
  const fits = 'n'.repeat(100_000_000 - field - '{"":}'.length)
  await saveSafetensors(path, { [fits]: t })
  const back = await loadSafetensors(path, { device })
  expect(Object.keys(back)[0]!.length).toBe(fits.length)
  const message = await errorOf('ERR_VALUE', () => saveSafetensors(path, { [`${fits}n`]: t }))
  expect(message).toContain('100000000')
  expect(Object.keys(await loadSafetensors(path, { device, names: [] }))).toEqual([])
})
