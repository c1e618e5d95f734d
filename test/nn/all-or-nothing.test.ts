// What a call that throws leaves behind in whole models: the counters of seeds, passes and batches,
// and what a checkpoint would have been loaded into.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Device, MemoryLayer, PeerLayer, Sgd, ValueTable } from '../../lib/index.js'
import * as nn from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { failNext, stopFailing } from '../support/failures.js'
import { reportAll } from '../support/faults.js'
import { valuesOf } from '../support/layers.js'

const folder = mkdtempSync(join(tmpdir(), 'all-or-nothing-'))
afterAll(() => rmSync(folder, { recursive: true }))

const feedForward = { kind: 'gelu', hiddenDim: 4 } as const
const sizes = { vocabSize: 10, dim: 4, layers: 1, heads: 2, contextLength: 4 }
const decoder = { ...sizes, dropout: 0.5, feedForward }
const lookup = { inputDim: 4, nKeys: 4, heads: 1, knn: 2, keyDim: 4 }

/** Constructors that draw a seed, with options that are right. */
const constructors: Record<string, [new (device: Device, options: never) => Disposable, object]> = {
  ValueTable: [ValueTable, { slots: 4, dim: 4 }],
  MemoryLayer: [MemoryLayer, lookup],
  PeerLayer: [PeerLayer, lookup],
  Linear: [nn.Linear, { inputDim: 4, outputDim: 4 }],
  Embedding: [nn.Embedding, { count: 4, dim: 4 }],
  FeedForward: [nn.FeedForward, { dim: 4, hiddenDim: 4 }],
  Attention: [nn.Attention, { dim: 4, heads: 2 }],
  MixtureOfExperts: [nn.MixtureOfExperts, { dim: 4, hiddenDim: 4, experts: 2 }],
  TokenChoiceExperts: [nn.TokenChoiceExperts, { dim: 4, hiddenDim: 4, experts: 2 }],
  Transformer: [nn.Transformer, decoder],
}

/** A checkpoint with other metadata. */
function withContents(path: string, change: (contents: Record<string, unknown>) => void): string {
  const bytes = readFileSync(path)
  const begin = 8 + Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, begin).toString())
  const contents = JSON.parse(header.__metadata__.contents)
  change(contents)
  header.__metadata__.contents = JSON.stringify(contents)
  const json = JSON.stringify(header)
  const text = Buffer.from(json.padEnd(8 * Math.ceil(json.length / 8)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(`${path}-changed`, Buffer.concat([length, text, bytes.subarray(begin)]))
  return `${path}-changed`
}

onEveryDevice((device) => {
  const path = join(folder, `${device.kind}.safetensors`)

  describe.each(Object.entries(constructors))('%s', (_, [Constructor, options]) => {
    const nextSeedAfter = (build: () => void) =>
      device.seeds.within(1, () => {
        build()
        return device.seeds.next()
      })
    const first = nextSeedAfter(() => {})

    test('draws no seed if an option is wrong', () => {
      for (const name of [...Object.keys(options), 'compute', 'bias', 'init', 'gate', 'heads']) {
        const wrong = { ...options, [name]: 'wrong' } as never
        expect(nextSeedAfter(() => expect(() => new Constructor(device, wrong)).toThrow())).toBe(
          first,
        )
      }
    })

    test('draws no seed and holds no memory if an allocation fails', async () => {
      const build = () => new Constructor(device, options as never)
      for (let after = 0; ; after++) {
        let failed = true
        await device.synchronize()
        const held = device.memory().allocated
        const next = nextSeedAfter(() => {
          failNext({ kind: 'allocation', after })
          try {
            build()[Symbol.dispose]()
            failed = false
          } catch {
          } finally {
            stopFailing('allocation')
          }
        })
        if (!failed) return expect(next).not.toBe(first)
        expect(next).toBe(first)
        await device.synchronize()
        expect(device.memory().allocated).toBeLessThanOrEqual(held)
      }
    })
  })

  test('dropout and a model count the passes that succeeded', async () => {
    const dropout = new nn.Dropout(device, { p: 0.5 })
    await errorOf('ERR_DTYPE', () => dropout.apply(device.zeros([2], 'int8')))
    expect(dropout.position).toBe(0)
    const model = new nn.Transformer(device, decoder)
    model.loss([1, 2], [2, 3])
    model.lmHead.dispose()
    await errorOf('ERR_DISPOSED', () => model.loss([1, 2], [2, 3]))
    await errorOf('ERR_DISPOSED', () => model.apply([1, 2]))
    expect(model.position).toBe(1)
    for (const counter of [dropout, model])
      for (const wrong of [-1, 0.5, Number.NaN, '1', null, 2 ** 53]) {
        const before = counter.position
        await errorOf('ERR_VALUE', () => {
          counter.position = wrong as number
        })
        expect(counter.position).toBe(before)
      }
  })

  test('a checkpoint whose positions or state are wrong changes nothing', async () => {
    const make = (seed: number) => new nn.Linear(device, { inputDim: 2, outputDim: 2, seed })
    const data = new nn.TextDataset('to be or not to be', { device, contextLength: 2 })
    await nn.saveCheckpoint(path, { model: make(1), data, state: { fit: { step: 1 } } })
    const model = make(2)
    const before = await valuesOf(model.parameters())
    const unchanged = async () => expect(await valuesOf(model.parameters())).toEqual(before)
    for (const wrong of [-1, 0.5, null, '1', [], 2 ** 53]) {
      const changed = withContents(path, (contents) => {
        contents['positions'] = { data: wrong }
      })
      await errorOf('ERR_FILE_FORMAT', () => nn.loadCheckpoint(changed, { model, data }))
      await unchanged()
    }
    const refuses = { position: 0 }
    Object.defineProperty(refuses, 'position', {
      get: () => 0,
      set: () => {
        throw new Error('no')
      },
    })
    const position = data.position
    data.position = 3
    await expect(nn.loadCheckpoint(path, { model, data: refuses })).rejects.toThrow('no')
    await unchanged()
    data.position = position
    const optimizer = new Sgd(model.parameters(), { lr: 0.1 })
    const trained = Object.assign(model, { loss: () => device.zeros([1]) })
    await nn.saveCheckpoint(path, { model: make(1), optimizer, state: { fit: { step: 1 } } })
    const resumed = nn.fit(trained, [], { optimizer, resume: path })
    await errorOf('ERR_FILE_FORMAT', () => resumed)
    await unchanged()
  })

  test('what is saved as a checkpoint can be loaded', async () => {
    const model = new nn.Linear(device, { inputDim: 2, outputDim: 2 })
    const dropout = new nn.Dropout(device, { p: 0.5 })
    dropout.position = 5
    const odd = Object.fromEntries([
      ['model', model],
      ['__proto__', dropout],
      ['state', JSON.parse('{"__proto__": [1, {"a": null}]}')],
    ])
    await nn.saveCheckpoint(path, odd)
    dropout.position = 0
    expect((await nn.loadCheckpoint(path, odd)).state).toEqual(odd['state'])
    expect(dropout.position).toBe(5)
    await errorOf('ERR_VALUE', () => nn.saveCheckpoint(path, { a: model, 'a.b': model }))
    for (const wrong of [-1, 0.5, Number.NaN])
      await errorOf('ERR_VALUE', () => nn.saveCheckpoint(path, { data: { position: wrong } }))
    for (const wrong of [Array(1), 1n, [undefined], { f() {} }, new Map()])
      await errorOf('ERR_VALUE', () => nn.saveCheckpoint(path, { model, state: wrong }))
  })

  test('generation and training that have no memory hold none', async () => {
    const model = new nn.Transformer(device, decoder)
    const optimizer = new Sgd(model.parameters(), { lr: 0.1 })
    const generate = async () => {
      for await (const _ of model.generate([[1, 2], [3]], { maxTokens: 1, seed: 1 }));
    }
    const batch = { tokens: [1, 2], targets: [2, 3] }
    const train = async () => void (await nn.fit(model, [batch], { optimizer, clip: 1 }))
    for (const call of [generate, train]) {
      await call()
      for (let after = 0; ; after += device.kind === 'cpu' ? 1 : 9) {
        await reportAll(device)
        const held = device.memory().allocated
        failNext({ kind: 'allocation', after })
        const error = await call().catch((e) => e)
        stopFailing('allocation')
        if (!error) break
        expect(error.code).toBe('ERR_OUT_OF_MEMORY')
        await reportAll(device)
        expect(device.memory().allocated).toBeLessThanOrEqual(held)
      }
    }
  })

  test('batches that can not be read are refused', async () => {
    const model = new nn.Transformer(device, decoder)
    const optimizer = new Sgd(model.parameters(), { lr: 0.1 })
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    const iterators = [5, () => 5, () => ({ next: 5 }), () => ({ next: () => 5 })]
    const iterables = iterators.map((iterator) => ({ [Symbol.iterator]: iterator }))
    for (const wrong of [5, null, {}, proxy, new Float32Array(1), ...iterables])
      await errorOf('ERR_VALUE', () => nn.fit(model, wrong as never, { optimizer }))
  })

  test('a schedule that gives no number ends the run, and the rate is as before', async () => {
    const model = new nn.Transformer(device, decoder)
    const optimizer = new Sgd(model.parameters(), { lr: 0.1 })
    const batch = { tokens: [1, 2], targets: [2, 3] }
    const before = await valuesOf(model.parameters())
    for (const wrong of [Number.NaN, Infinity, '1', undefined, -1]) {
      const run = nn.fit(model, [batch], { optimizer, schedule: () => wrong as number })
      await errorOf('ERR_VALUE', () => run)
      expect(optimizer.lr).toBe(0.1)
      expect(await valuesOf(model.parameters())).toEqual(before)
    }
  })
})
