// Every option of every public function and class, misspelt by one letter, is refused with the
// right name. The names are read from the types, so an option that is added is tested, and a
// function with options that is not listed here fails.

import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import * as main from '../lib/index.js'
import { MemoryLayersError, openDevice, ops } from '../lib/index.js'
import * as nn from '../lib/nn/index.js'

const device = openDevice('cpu')
const zeros = (...shape: number[]) => device.zeros(shape)
const layer = new main.MemoryLayer(device, { inputDim: 4, heads: 1, knn: 2, nKeys: 4, keyDim: 4 })
const parameters = layer.parameters()
const query = zeros(2, 1, 2, 2)
const keys = zeros(1, 2, 4, 2)
const lookup = ops.productKeyLookup(query, keys, { knn: 2 })
const bag = [zeros(16, 4), lookup.indices.reshape([2, 2]), lookup.weights.reshape([2, 2])] as const
const x = zeros(2, 4)
const w = zeros(4, 4)
const maps = zeros(1, 4, 4)
const offsets = device.tensor(Int32Array.of(0, 2))
const four = zeros(1, 2, 1, 4)
const attended = ops.attention(four, four, four)
const targets = device.zeros([2], 'int32')
const sizes = { vocabSize: 3, dim: 4, layers: 1, heads: 1, contextLength: 2 }
const decoder = new nn.Transformer(device, { ...sizes, feedForward: { kind: 'none' } })
const { u } = ops.peer(x, bag[0], bag[0], bag[1], bag[2])

type Call = (o: never) => unknown

const calls: Record<string, Call> = {
  openDevice: (o) => openDevice('cpu', o),
  saveSafetensors: (o) => main.saveSafetensors('/nowhere/x', {}, o),
  loadSafetensors: (o) => main.loadSafetensors('/nowhere/x', o),
  readSafetensors: (o) => main.readSafetensors('/nowhere/x', o),
  MemoryLayer: (o) => new main.MemoryLayer(device, o),
  PeerLayer: (o) => new main.PeerLayer(device, o),
  ValueTable: (o) => new main.ValueTable(device, o),
  'ValueTable.map': (o) => main.ValueTable.map('/nowhere/x', 'a', o),
  'Device.normal': (o) => device.normal([1], o),
  'Device.uniform': (o) => device.uniform([1], o),
  Sgd: (o) => new main.Sgd(parameters, o),
  Adagrad: (o) => new main.Adagrad(parameters, o),
  RowwiseAdagrad: (o) => new main.RowwiseAdagrad(parameters, o),
  AdamW: (o) => new main.AdamW(parameters, o),
  'Optimizer.step': (o) => new main.Sgd(parameters, { lr: 1 }).step(o),
  Linear: (o) => new nn.Linear(device, o),
  FeedForward: (o) => new nn.FeedForward(device, o),
  RmsNorm: (o) => new nn.RmsNorm(device, o),
  Attention: (o) => new nn.Attention(device, o),
  Embedding: (o) => new nn.Embedding(device, o),
  MixtureOfExperts: (o) => new nn.MixtureOfExperts(device, o),
  TokenChoiceExperts: (o) => new nn.TokenChoiceExperts(device, o),
  Dropout: (o) => new nn.Dropout(device, o),
  Module: (o) => new (class extends nn.Module {})(device, o),
  'CrossEntropy.forward': (o) => new nn.CrossEntropy(device).forward(x, targets, o),
  'CrossEntropy.apply': (o) => new nn.CrossEntropy(device).apply(x, targets, o),
  Transformer: (o) => new nn.Transformer(device, o),
  'Transformer.load': (o) => nn.Transformer.load('/nowhere', o),
  'Transformer.loss': (o) => decoder.loss([1], [2], o),
  'Transformer.generate': (o) => decoder.generate([1], o),
  SlotCounter: (o) => new main.SlotCounter(device, o),
  rankSlots: (o) => main.rankSlots(new main.SlotCounter(device, { slots: 2 }), o),
  clipGradNorm: (o) => main.clipGradNorm(parameters, 1, o),
  'schedules.constant': (o) => nn.schedules.constant(o),
  'schedules.warmupCosine': (o) => nn.schedules.warmupCosine(o),
  'schedules.warmupLinear': (o) => nn.schedules.warmupLinear(o),
  fit: (o) => nn.fit(decoder, [], o),
  plan: (o) => nn.plan(sizes, o),
  planScaling: (o) => nn.planScaling(sizes, o),
  saveCheckpoint: (o) => nn.saveCheckpoint('/nowhere/x', {}, o),
  TextDataset: (o) => new nn.TextDataset('text', o),
  'TextDataset.load': (o) => nn.TextDataset.load('README.md', o),
  'ops.productKeyScores': (o) => ops.productKeyScores(query, keys, o),
  'ops.topK': (o) => ops.topK(x, 1, o),
  'ops.productKeyLookup': (o) => ops.productKeyLookup(query, keys, o),
  'ops.productKeyLookupBackward': (o) =>
    ops.productKeyLookupBackward(lookup, zeros(2, 1, 2), { query, keys }, o),
  'ops.embeddingBag': (o) => ops.embeddingBag(...bag, o),
  'ops.embeddingBagBackward': (o) => ops.embeddingBagBackward(x, ...bag, o),
  'ops.linear': (o) => ops.linear(x, w, undefined, o),
  'ops.linearBackward': (o) => ops.linearBackward(x, x, w, o),
  'ops.groupByIndex': (o) => ops.groupByIndex(lookup.indices.reshape([2, 2]), 16, o),
  'ops.groupedLinear': (o) => ops.groupedLinear(x, maps, offsets, undefined, o),
  'ops.groupedLinearBackward': (o) => ops.groupedLinearBackward(x, x, maps, offsets, o),
  'ops.siluGate': (o) => ops.siluGate(x, x, o),
  'ops.siluGateBackward': (o) => ops.siluGateBackward(x, x, x, o),
  'ops.sigmoidGate': (o) => ops.sigmoidGate(x, zeros(2, 1), o),
  'ops.sigmoidGateBackward': (o) => ops.sigmoidGateBackward(x, x, zeros(2, 1), o),
  'ops.rmsNorm': (o) => ops.rmsNorm(x, undefined, o),
  'ops.rmsNormBackward': (o) => ops.rmsNormBackward(x, x, undefined, o),
  'ops.layerNorm': (o) => ops.layerNorm(x, undefined, undefined, o),
  'ops.layerNormBackward': (o) => ops.layerNormBackward(x, x, undefined, o),
  'ops.rope': (o) => ops.rope(four, o),
  'ops.ropeBackward': (o) => ops.ropeBackward(four, o),
  'ops.embedding': (o) => ops.embedding(x, [0], o),
  'ops.dropout': (o) => ops.dropout(x, o),
  'ops.dropoutBackward': (o) => ops.dropoutBackward(x, o),
  'ops.multinomial': (o) => ops.multinomial(x, o),
  'ops.causalConv1d': (o) => ops.causalConv1d(zeros(1, 2, 2), x, undefined, o),
  'ops.causalConv1dBackward': (o) => ops.causalConv1dBackward(zeros(1, 2, 2), zeros(1, 2, 2), x, o),
  'ops.concat': (o) => ops.concat([x, x], 0, o),
  'ops.slice': (o) => ops.slice(x, o),
  'ops.sliceBackward': (o) => ops.sliceBackward(x, [2, 2], o),
  'ops.permute': (o) => ops.permute(x, [1, 0], o),
  'ops.permuteBackward': (o) => ops.permuteBackward(x, [1, 0], o),
  'ops.softmax': (o) => ops.softmax(x, o),
  'ops.softmaxBackward': (o) => ops.softmaxBackward(x, x, o),
  'ops.add': (o) => ops.add(x, x, o),
  'ops.sumBackward': (o) => ops.sumBackward(zeros(), x.shape, o),
  'ops.meanBackward': (o) => ops.meanBackward(zeros(), x.shape, o),
  'ops.maxBackward': (o) => ops.maxBackward(zeros(), x, zeros(), o),
  'ops.matmul': (o) => ops.matmul(w, w, o),
  'ops.matmulBackward': (o) => ops.matmulBackward(w, w, w, o),
  'ops.crossEntropy': (o) => ops.crossEntropy(x, device.zeros([2], 'int32'), o),
  'ops.crossEntropyBackward': (o) =>
    ops.crossEntropyBackward(zeros(2), x, device.zeros([2], 'int32'), o),
  'ops.targetWeights': (o) => ops.targetWeights(device.zeros([2], 'int32'), o),
  'ops.attention': (o) => ops.attention(four, four, four, o),
  'ops.attentionBackward': (o) =>
    ops.attentionBackward(four, { q: four, k: four, v: four, ...attended }, o),
  'ops.peer': (o) => ops.peer(x, bag[0], bag[0], bag[1], bag[2], o),
  'ops.peerBackward': (o) =>
    ops.peerBackward(x, { x, down: bag[0], up: bag[0], indices: bag[1], weights: bag[2], u }, o),
  ...Object.fromEntries(
    (['sub', 'mul', 'div'] as const).map((name) => [`ops.${name}`, (o) => ops[name](x, x, o)]),
  ),
  ...Object.fromEntries(
    (['exp', 'log', 'sqrt', 'tanh', 'sum', 'mean', 'max'] as const).map((name) => [
      `ops.${name}`,
      (o) => ops[name](x, o),
    ]),
  ),
  ...Object.fromEntries(
    (['relu', 'gelu', 'silu', 'sigmoid'] as const).flatMap((name): [string, Call][] => [
      [`ops.${name}`, (o) => ops[name](x, o)],
      [`ops.${name}Backward`, (o) => ops[`${name}Backward`](x, x, o)],
    ]),
  ),
}

/** Names of the options of each exported callable: those of its parameter `options`. */
function optionNames(): Map<string, string[]> {
  const files = ['lib/index.ts', 'lib/nn/index.ts']
  const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile)
  const program = ts.createProgram(
    files,
    ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, '.').options,
  )
  const checker = program.getTypeChecker()
  const found = new Map<string, string[]>()
  const take = (name: string, signatures: readonly ts.Signature[]) => {
    for (const s of signatures) {
      const options = s.parameters.find((p) => p.name === 'options')
      const internal = s.getJsDocTags().some((t) => t.name === 'internal')
      if (!options || internal) continue
      const type = checker.getNonNullableType(checker.getTypeOfSymbol(options))
      found.set(
        name,
        type.getProperties().map((p) => p.name),
      )
    }
  }
  const visit = (prefix: string, symbol: ts.Symbol) => {
    for (let s of checker.getExportsOfModule(symbol)) {
      if (s.flags & ts.SymbolFlags.Alias) s = checker.getAliasedSymbol(s)
      if (s.flags & ts.SymbolFlags.ValueModule)
        visit(`${prefix}${s.name.includes('ops') ? 'ops.' : ''}`, s)
      const type = checker.getTypeOfSymbol(s)
      take(prefix + s.name, type.getCallSignatures())
      if (s.flags & ts.SymbolFlags.Variable && type.flags & ts.TypeFlags.Object)
        for (const m of type.getProperties())
          if (m.flags & ts.SymbolFlags.Method)
            take(`${prefix}${s.name}.${m.name}`, checker.getTypeOfSymbol(m).getCallSignatures())
      if (!(s.flags & ts.SymbolFlags.Class)) continue
      take(prefix + s.name, type.getConstructSignatures())
      const members = [...(s.members?.values() ?? []), ...(s.exports?.values() ?? [])]
      for (const m of members)
        if (m.flags & ts.SymbolFlags.Method)
          take(`${prefix}${s.name}.${m.name}`, checker.getTypeOfSymbol(m).getCallSignatures())
    }
  }
  for (const file of files) visit('', checker.getSymbolAtLocation(program.getSourceFile(file)!)!)
  return found
}

/** A letter left out, doubled, changed, or exchanged with the next, at every position. */
function misspellings(name: string): string[] {
  const all = [...name].flatMap((letter, i) => [
    name.slice(0, i) + name.slice(i + 1),
    name.slice(0, i) + letter + name.slice(i),
    `${name.slice(0, i)}q${name.slice(i + 1)}`,
    name.slice(0, i) + (name[i + 1] ?? '') + letter + name.slice(i + 2),
  ])
  return [...new Set(all)].filter((m) => m !== name && m !== '')
}

/** Whether one letter left out, added, changed or exchanged makes b of a, but for case. */
function isOneEdit(a: string, typed: string): boolean {
  const b = typed.toLowerCase()
  const most = Math.min(a.length, b.length)
  let begin = 0
  while (begin < most && a[begin] === b[begin]) begin++
  let end = 0
  while (end < most - begin && a.at(-1 - end) === b.at(-1 - end)) end++
  const [x, y] = [a, b].map((text) => text.slice(begin, text.length - end)) as [string, string]
  return (x.length <= 1 && y.length <= 1) || (x.length === 2 && x === [...y].reverse().join(''))
}

const names = optionNames()

test('every public function with options is listed here', () => {
  // an operation that the index exports a second time is listed once
  expect([...names.keys()].sort()).toEqual(Object.keys(calls).sort())
})

describe.each(Object.entries(calls))('%s', (name, call) => {
  test('refuses misspelt options with the right name', async () => {
    const known = names.get(name)!
    expect(known.length).toBeGreaterThan(0)
    for (const option of known) {
      for (const wrong of misspellings(option).filter((m) => !known.includes(m))) {
        let error: unknown
        try {
          await call({ [wrong]: undefined } as never)
        } catch (e) {
          error = e
        }
        expect(error, `${name}({ ${wrong} })`).toBeInstanceOf(MemoryLayersError)
        const { code, message } = error as MemoryLayersError
        expect(code, message).toBe('ERR_OPTION')
        expect(message).toContain(`unknown option "${wrong}"`)
        // It may be as near to another one: top is topK, topP and stop.
        const near = known.filter((o) => o === option || isOneEdit(o.toLowerCase(), wrong))
        const hints = near.map((o) => `Did you mean "${o}"?`)
        expect(
          hints.some((hint) => message.includes(hint)),
          message,
        ).toBe(true)
      }
    }
  })
})
