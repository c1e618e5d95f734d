// Whatever an argument or option is of a whole model, its data, its training and
// its files: the call works or throws a MemoryLayersError, and the device goes on.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { AdamW, type Device, noGrad, Sgd, tidy, ValueTable } from '../../lib/index.js'
import * as nn from '../../lib/nn/index.js'
import { saveSafetensors } from '../../lib/safetensors.js'
import { onEveryDevice } from '../support/devices.js'
import { type Call, testSpoiledCalls } from '../support/spoiled-calls.js'

const sizes = { vocabSize: 10, dim: 4, layers: 2, heads: 2, contextLength: 6 }
const lookup = { nKeys: 4, heads: 1, knn: 2, keyDim: 4 }
const folder = mkdtempSync(join(tmpdir(), 'arguments-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Calls with a path that is taken within the folder. */
const within =
  (call: (path: never, ...rest: never[]) => unknown) =>
  (path: unknown, ...rest: never[]) =>
    call((typeof path === 'string' && path ? join(folder, path) : path) as never, ...rest)

const made =
  (make: (...args: never[]) => { dispose(): void }) =>
  (...args: never[]) =>
    make(...args).dispose()

class Child extends nn.Module {
  part: unknown
}

function modelCalls(device: Device): Record<string, Call> {
  const model = new nn.Transformer(device, { ...sizes, dropout: 0.5 })
  const experts = new nn.TokenChoiceExperts(device, { dim: 4, hiddenDim: 4, experts: 3 })
  const create = made((d, o) => new nn.Transformer(d, o))
  const memory = { layers: [0], ...lookup, shared: true, beside: true }
  const child = new Child(device)
  const tied = new ValueTable(device, { slots: 4, dim: 4 })
  const x = device.zeros([2, 4])
  return {
    Transformer: [[device, { ...sizes, rope: { theta: 2 }, memory, seed: 1 }], create],
    'Transformer, memory': [
      [memory],
      (m) => new nn.Transformer(device, { ...sizes, memory: m }).dispose(),
    ],
    'Transformer, a layer': [
      [{ kind: 'moe', experts: 2, hiddenDim: 4 }],
      (spec) => new nn.Transformer(device, { ...sizes, feedForward: () => spec }).dispose(),
    ],
    'model.apply': [[[1, 2]], model.apply.bind(model) as never],
    'model.loss': [[[1, 2], [2, 3], { ignoreIndex: 0 }], model.loss.bind(model) as never],
    'model.generate': [
      [[1], { maxTokens: 1, topK: 2, topP: 0.5, stop: [3], seed: 1 }],
      async (...args) => {
        for await (const _ of model.generate(...(args as unknown as [number[]])));
      },
    ],
    'model.position': [
      [1],
      (position) => {
        model.position = position
        model.loss([1], [2])
      },
    ],
    TokenChoiceExperts: [
      [device, { dim: 4, hiddenDim: 4, experts: 2, balance: 0.1, seed: 1 }],
      made((d, o) => new nn.TokenChoiceExperts(d, o)),
    ],
    'experts.apply': [[x], experts.apply.bind(experts)],
    'experts.applyBalanced': [[x], experts.applyBalanced.bind(experts)],
    Dropout: [[device, { p: 0.5, seed: 1 }], made((d, o) => new nn.Dropout(d, o))],
    Sequential: [[device, [tidy, experts]], made((d, parts) => new nn.Sequential(d, parts))],
    Residual: [[device, experts], (d, inner) => new nn.Residual(d, inner)],
    'Linear, tied': [
      [device, { inputDim: 4, outputDim: 4, weight: tied }],
      made((d, o) => new nn.Linear(d, o)),
    ],
    'a property of a module': [
      [experts],
      (part) => {
        child.part = part
        child.loadStateDict(child.stateDict())
        child.eval()
        child.describe()
      },
    ],
    'what noGrad runs returns': [[[1]], (result) => void noGrad(() => result)],
    'what tidy runs returns': [[[1]], (result) => void tidy(() => result)],
  }
}

function trainingCalls(device: Device): Record<string, Call> {
  const model = new nn.Linear(device, { inputDim: 4, outputDim: 4 })
  const [weight, bias] = model.parameters()
  const decoder = new nn.Transformer(device, { ...sizes, feedForward: { kind: 'none' } })
  const optimizer = new Sgd(decoder.parameters(), { lr: 0.1, tableLr: 1 })
  const batch = { tokens: [1, 2], targets: [2, 3] }
  const text = 'to be or not to be'
  const dataset = (source: never, options: never) => {
    for (const one of new nn.TextDataset(source, options)) return one.dispose()
  }
  const options = { device, contextLength: 3, batchSize: 2, epochs: 1 }
  const characters = new nn.CharacterTokenizer(text)
  const fitted = (o: object) => nn.fit(decoder, [batch], { optimizer, ...o } as never)
  const group = { params: [weight], lr: 0.1, tableLr: 0.2, weightDecay: 0, constant: true }
  const schedule = nn.schedules.warmupCosine({ warmup: 3, total: 10 })
  const path = `${device.kind}.safetensors`
  const parts = { model, data: { position: 3 }, state: { a: [1] } }
  return {
    TextDataset: [[text, { ...options, tokenizer: characters }], dataset],
    'TextDataset, tokens': [[[1, 2, 3, 4], { device, contextLength: 1 }], dataset],
    'TextDataset, a token': [[1], (token) => dataset([1, token, 3] as never, options as never)],
    'encode of a tokenizer': [
      [{ ids: [1, 2, 3, 4, 5, 6, 7] }],
      (ids) =>
        dataset(
          text as never,
          { ...options, tokenizer: { encode: () => ids, decode() {} } } as never,
        ),
    ],
    'characters.encode': [['be'], characters.encode.bind(characters)],
    'characters.decode': [[[1, 2]], characters.decode.bind(characters)],
    fit: [
      [decoder, { optimizer, steps: 1, clip: 1, every: 1 }],
      (m, o) => nn.fit(m, [batch] as never, o),
    ],
    'a batch': [[batch], (b) => nn.fit(decoder, [b], { optimizer })],
    'what a schedule gives': [[1], (factor) => fitted({ schedule: () => factor })],
    'what parameters() gives': [
      [decoder.parameters()],
      (parameters) =>
        nn.fit(Object.assign(Object.create(decoder), { parameters: () => parameters }), [batch], {
          optimizer,
        }),
    ],
    'clip of fit': [[{ maxNorm: 1, tables: 'apart' }], (clip) => fitted({ clip })],
    'checkpoint of fit': [[undefined], (checkpoint) => fitted({ checkpoint })],
    'checkpoints of fit': [
      [path, 1, 2],
      within((at, every, keep) => fitted({ checkpoint: { path: at, every, keep } })),
    ],
    'a schedule': [[2], schedule],
    warmupLinear: [[{ warmup: 1, total: 4, floor: 0.1 }], nn.schedules.warmupLinear],
    'a group': [
      [group],
      made((g) => new AdamW([g, { params: [bias] }] as never, { lr: 0.1, tableLr: 0.1 })),
    ],
    'optimizer.lr': [
      [0.1],
      (lr) => {
        optimizer.lr = lr
        void optimizer.tableLr
        optimizer.step()
      },
    ],
    plan: [[sizes, { devices: 2, link: 'pcie-4', batch: 2, optimizer: 'sgd' }], nn.plan],
    saveCheckpoint: [[path, parts], within(nn.saveCheckpoint)],
    loadCheckpoint: [[path, parts], within(nn.loadCheckpoint)],
    saveSafetensors: [
      [path, { w: weight!.value }, { metadata: { a: 'b' } }],
      within(saveSafetensors),
    ],
    'model.save': [[device.kind], within(decoder.save.bind(decoder))],
    'Transformer.load': [
      [device.kind, { device, memory: { layers: [0], ...lookup } }],
      within(async (at, o) => (await nn.Transformer.load(at, o)).dispose()),
    ],
    'ValueTable.map': [
      [path, 'w', { device, scales: undefined }],
      within((at, name, o) => ValueTable.map(at, name, o).dispose()),
    ],
  }
}

onEveryDevice((device) => {
  testSpoiledCalls(device, { ...modelCalls(device), ...trainingCalls(device) })
})
