// The calls whose insides are made to fail. Each does its work on a state and returns what it made,
// to be disposed, or numbers to be compared.

import {
  Adagrad,
  AdamW,
  clipGradNorm,
  loadSafetensors,
  MemoryLayer,
  type Optimizer,
  openDevice,
  ops,
  PeerLayer,
  RowwiseAdagrad,
  Sgd,
  type StateDict,
  saveSafetensors,
  type Tensor,
  ValueTable,
} from '../../../lib/index.js'
import { Embedding, MixtureOfExperts } from '../../../lib/nn/index.js'
import type { State } from './state.js'

/** What a call made, disposed afterwards; numbers among it are compared. */
export type Made = readonly (Disposable | ArrayLike<number>)[]

export interface Call {
  name: string
  run?(s: State, files: Files): Made | undefined | Promise<Made | undefined>
  /** Instead of `run`: makes what is then disposed, which must not fail. */
  doomed?(s: State): Disposable
}

/** Files that are there before the call, and one that it may write. */
export interface Files {
  saved: string
  target: string
}

const small = { inputDim: 6, heads: 1, knn: 2, nKeys: 2, keyDim: 4 }

const call = (name: string, run: NonNullable<Call['run']>): Call => ({ name, run })

const training = [
  call('MemoryLayer.forward', ({ layer, x }) => Object.values(layer.forward(x))),
  call('MemoryLayer.infer', ({ layer, x }) => [layer.infer(x)]),
  call('MemoryLayer.backward', ({ layer, context, dy }) => [layer.backward(context, dy)]),
  call('Linear.forward', ({ linear, x }) => Object.values(linear.forward(x))),
  call('AdamW.step', ({ optimizer }) => void optimizer.step()),
  call('AdamW.zeroGrad', ({ optimizer }) => void optimizer.zeroGrad()),
  call('clipGradNorm', ({ parameters }) => [clipGradNorm(parameters, 0.1)]),
  call('MemoryLayer.loadStateDict', ({ layer }) => void loadZeros(layer, layer.stateDict())),
  call('Optimizer.loadStateDict', ({ optimizer }) => {
    const state = optimizer.stateDict()
    try {
      loadZeros(optimizer, state)
    } finally {
      for (const t of masters(state)) t.dispose()
    }
    return []
  }),
  call('Optimizer.stateDict', ({ optimizer }) => masters(optimizer.stateDict())),
  call('ValueTable.gradient', ({ layer }) => {
    const gradient = layer.values.gradient()
    try {
      return [gradient, gradient.toDense()]
    } catch (error) {
      gradient.dispose()
      throw error
    }
  }),
]

/** Loads a state of zeros. */
function loadZeros(into: MemoryLayer | Optimizer, like: StateDict): void {
  const zeros: StateDict = {}
  try {
    for (const [name, t] of Object.entries(like)) zeros[name] = t.device.zeros(t.shape, t.dtype)
    into.loadStateDict(zeros)
  } finally {
    for (const t of Object.values(zeros)) t.dispose()
  }
}

/** The tensors that a state dict of an optimizer has made. */
function masters(state: StateDict): Tensor[] {
  return Object.keys(state).flatMap((name) => (name.endsWith('.master') ? [state[name]!] : []))
}

const tensors = [
  call('device.tensor', ({ device }) => [device.tensor([1, 2, 3], [3], 'bfloat16')]),
  call('device.zeros', ({ device }) => [device.zeros([100])]),
  call('device.normal', ({ device }) => [device.normal([100], { seed: 1, dtype: 'float16' })]),
  call('Tensor.write', ({ x }) => void x.write(new Float32Array(x.size).fill(3))),
  call('Tensor.copyFrom', ({ x, dy }) => void x.copyFrom(dy)),
  call('Tensor.to', ({ x }) => [x.to('bfloat16')]),
  call('Tensor.to(device)', async ({ x, other }) => {
    using copy = x.to(other)
    return [await copy.data()]
  }),
  call('Tensor.rows', ({ x }) => [x.rows(1, 2)]),
  call('Tensor.data', async ({ x }) => [await x.data()]),
  call('Tensor.dataSync', ({ x }) => [x.dataSync()]),
  call('device.synchronize', async ({ device }) => void (await device.synchronize())),
]

const operations = [
  call('ops.linear', ({ x, linear }) => [ops.linear(x, linear.parameters()[0]!.value)]),
  call('ops.softmax', ({ x }) => [ops.softmax(x)]),
  call('ops.topK', ({ x }) => Object.values(ops.topK(x, 2))),
  call('ops.embeddingBag', ({ x }) => withBag(x, (i, w) => [ops.embeddingBag(x, i, w)])),
  call('ops.embeddingBagBackward', ({ x, dy }) =>
    withBag(x, (i, w) => Object.values(ops.embeddingBagBackward(dy, x, i, w))),
  ),
  call('ops.productKeyLookup and backward', ({ device }) => {
    using query = device.normal([2, 2, 2, 4], { seed: 3 })
    using keys = device.normal([2, 2, 3, 4], { seed: 4 })
    const lookup = ops.productKeyLookup(query, keys, { knn: 2 })
    using _scores = lookup.scores
    using _indices = lookup.indices
    using weights = lookup.weights
    const { dQuery, dKeys } = ops.productKeyLookupBackward(lookup, weights, { query, keys })
    return [dQuery, dKeys]
  }),
]

function withBag(x: Tensor, run: (indices: Tensor, weights: Tensor) => Made): Made {
  using indices = x.device.tensor(Int32Array.of(0, 1, 2), [3, 1])
  using weights = x.device.tensor([1, 2, 3], [3, 1])
  return run(indices, weights)
}

const constructors = [
  call('openDevice', async () => {
    const device = openDevice('cpu', { threads: 3 })
    try {
      return [await device.normal([100], { seed: 1 }).data()]
    } finally {
      await device.close()
    }
  }),
  call('new MemoryLayer', ({ device }) => [new MemoryLayer(device, small)]),
  call('new PeerLayer', ({ device }) => [new PeerLayer(device, small)]),
  call('new ValueTable', ({ device }) => [new ValueTable(device, { slots: 4, dim: 3 })]),
  call('new Embedding', ({ device }) => [new Embedding(device, { count: 4, dim: 3 })]),
  call('new AdamW', ({ parameters }) => [new AdamW(parameters, { lr: 1 })]),
  call('new Adagrad', ({ parameters }) => [new Adagrad(parameters, { lr: 1 })]),
  call('new RowwiseAdagrad', ({ parameters }) => [new RowwiseAdagrad(parameters, { lr: 1 })]),
  call('new Sgd', ({ parameters }) => [new Sgd(parameters, { lr: 1 })]),
  call('PeerLayer', ({ device, x, dy }) => {
    using layer = new PeerLayer(device, small)
    const { output, context } = layer.forward(x)
    using _output = output
    using _context = context
    return [layer.backward(context, dy)]
  }),
  call('MixtureOfExperts', ({ device, x, dy }) => {
    using model = new MixtureOfExperts(device, { dim: 6, hiddenDim: 4, experts: 2 })
    const { output, context } = model.forward(x)
    try {
      return [output, model.backward(context, dy)]
    } catch (error) {
      output.dispose()
      context.dispose()
      throw error
    }
  }),
]

const files = [
  call('saveSafetensors', ({ layer }, { target }) =>
    saveSafetensors(target, layer.stateDict()).then(() => []),
  ),
  call('loadSafetensors', async ({ device }, { saved }) =>
    Object.values(await loadSafetensors(saved, { device })),
  ),
  call('ValueTable.map', ({ device }, { saved }) =>
    device.kind === 'cpu' ? [ValueTable.map(saved, 'a', { device })] : undefined,
  ),
  call('reads of a mapped ValueTable', async ({ device }, { saved }) => {
    if (device.kind !== 'cpu') return []
    using table = ValueTable.map(saved, 'a', { device })
    using indices = device.tensor(Int32Array.of(0, 3), [1, 2])
    using weights = device.tensor([1, 2], [1, 2])
    using sum = ops.embeddingBag(table.weight, indices, weights)
    return [await sum.data(), await table.weight.data()]
  }),
]

const dispose = (name: string, doomed: (s: State) => Disposable): Call => ({
  name: `${name}.dispose`,
  doomed,
})

const disposals = [
  dispose('Tensor', ({ device }) => device.zeros([100])),
  dispose('MemoryLayer', ({ device }) => new MemoryLayer(device, small)),
  dispose('PeerLayer', ({ device }) => new PeerLayer(device, small)),
  dispose('ValueTable', ({ device }) => new ValueTable(device, { slots: 4, dim: 3 })),
  dispose('Context', ({ layer, x }) => {
    const { output, context } = layer.forward(x)
    output.dispose()
    return context
  }),
  dispose('AdamW', ({ parameters }) => new AdamW(parameters, { lr: 1 })),
  dispose('SparseGrad', ({ layer }) => layer.values.gradient()),
  dispose(
    'MixtureOfExperts',
    ({ device }) => new MixtureOfExperts(device, { dim: 6, hiddenDim: 4, experts: 2 }),
  ),
]

export const calls: readonly Call[] = [
  ...training,
  ...tensors,
  ...operations,
  ...constructors,
  ...files,
  ...disposals,
]
