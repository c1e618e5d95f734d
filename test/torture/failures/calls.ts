// The calls whose insides are made to fail. Each does its work on a state and returns what it made,
// to be disposed, or numbers to be compared.

import {
  Adagrad,
  AdamW,
  clipGradNorm,
  loadSafetensors,
  MemoryLayer,
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
  run(s: State, files: Files): Made | undefined | Promise<Made | undefined>
}

/** Files that are there before the call, and one that it may write. */
export interface Files {
  saved: string
  target: string
}

const small = { inputDim: 6, heads: 1, knn: 2, nKeys: 2, keyDim: 4 }

const call = (name: string, run: Call['run']): Call => ({ name, run })

const training = [
  call('MemoryLayer.forward', ({ layer, x }) => Object.values(layer.forward(x))),
  call('MemoryLayer.infer', ({ layer, x }) => [layer.infer(x)]),
  call('MemoryLayer.backward', ({ layer, context, dy }) => [layer.backward(context, dy)]),
  call('Linear.forward', ({ linear, x }) => Object.values(linear.forward(x))),
  call('AdamW.step', ({ optimizer }) => void optimizer.step()),
  call('AdamW.zeroGrad', ({ optimizer }) => void optimizer.zeroGrad()),
  call('clipGradNorm', ({ parameters }) => [clipGradNorm(parameters, 0.1)]),
  call('MemoryLayer.loadStateDict', ({ layer, device }) => {
    const zeros: StateDict = {}
    try {
      for (const [name, t] of Object.entries(layer.stateDict())) zeros[name] = device.zeros(t.shape)
      layer.loadStateDict(zeros)
    } finally {
      for (const t of Object.values(zeros)) t.dispose()
    }
    return []
  }),
  call('Optimizer.stateDict', ({ optimizer }) =>
    Object.entries(optimizer.stateDict())
      .filter(([name]) => name.endsWith('.master'))
      .map(([, t]) => t),
  ),
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

const tensors = [
  call('device.tensor', ({ device }) => [device.tensor([1, 2, 3], [3], 'bfloat16')]),
  call('device.zeros', ({ device }) => [device.zeros([100])]),
  call('device.normal', ({ device }) => [device.normal([100], { seed: 1, dtype: 'float16' })]),
  call('Tensor.write', ({ x }) => void x.write(new Float32Array(x.size).fill(3))),
  call('Tensor.copyFrom', ({ x, dy }) => void x.copyFrom(dy)),
  call('Tensor.to', ({ x }) => [x.to('bfloat16')]),
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
]

export const calls: readonly Call[] = [
  ...training,
  ...tensors,
  ...operations,
  ...constructors,
  ...files,
]
