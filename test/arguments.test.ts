// Whatever is in an argument's place, and whatever in an option's: the call works or throws a
// MemoryLayersError, and the device goes on.

import * as main from '../lib/index.js'
import { type Device, ops } from '../lib/index.js'
import * as nn from '../lib/nn/index.js'
import { onEveryDevice } from './support/devices.js'
import { type Call, testSpoiledCalls } from './support/spoiled-calls.js'

function dataCalls(device: Device): Record<string, Call> {
  const t = device.zeros([2, 4])
  return {
    openDevice: [['cpu', { threads: 1 }], main.openDevice],
    'device.tensor': [[[1, 2], [2], 'int32'], device.tensor.bind(device) as never],
    'device.empty': [[[2], 'int8'], device.empty.bind(device) as never],
    'device.zeros': [[[2], 'int8'], device.zeros.bind(device) as never],
    'device.normal': [
      [[2], { mean: 1, std: 1, seed: 1, dtype: 'float16' }],
      device.normal.bind(device) as never,
    ],
    'device.uniform': [[[2], { low: 0, high: 1, seed: 1 }], device.uniform.bind(device) as never],
    'tensor.write': [[[1, 2, 3, 4, 5, 6, 7, 8]], t.write.bind(t) as never],
    'tensor.copyFrom': [[t.to('float32')], t.copyFrom.bind(t) as never],
    'tensor.to': [['float16'], t.to.bind(t) as never],
    'tensor.reshape': [[[4, 2]], t.reshape.bind(t) as never],
    'tensor.rows': [[0, 1], t.rows.bind(t) as never],
    ValueTable: [
      [device, { slots: 4, dim: 2, dtype: 'float32', init: { std: 1, seed: 1 } }],
      (d, o) => new main.ValueTable(d, o).dispose(),
    ],
  }
}

function operationCalls(device: Device): Record<string, Call> {
  const zeros = (...shape: number[]) => device.zeros(shape)
  const [x, w, b, dy] = [zeros(2, 4), zeros(3, 4), zeros(3), zeros(2, 3)]
  const [query, keys] = [zeros(2, 1, 2, 2), zeros(1, 2, 4, 2)]
  const lookup = ops.productKeyLookup(query, keys, { knn: 2 })
  const [table, weights] = [zeros(16, 4), zeros(2, 2)]
  const indices = device.zeros([2, 2], 'int32')
  const [qkv, targets] = [zeros(1, 2, 1, 4), device.zeros([2], 'int32')]
  const attended = ops.attention(qkv, qkv, qkv)
  const { u } = ops.peer(x, table, table, indices, weights)
  const saved = { x, down: table, up: table, indices, weights, u }
  const heads = { q: qkv, k: qkv, v: qkv, ...attended }
  return {
    linear: [[x, w, b, { out: zeros(2, 3) }], ops.linear],
    linearBackward: [
      [dy, x, w, { needs: { x: true }, into: { weight: zeros(3, 4) }, out: { dx: zeros(2, 4) } }],
      ops.linearBackward,
    ],
    topK: [[x, 2, { out: { values: zeros(2, 2) } }], ops.topK],
    productKeyScores: [[query, keys, {}], ops.productKeyScores],
    productKeyLookup: [
      [query, keys, { knn: 2, gate: 'softmax', mask: device.zeros([1, 2, 4], 'uint8') }],
      ops.productKeyLookup,
    ],
    productKeyLookupBackward: [
      [lookup, zeros(2, 1, 2), { query, keys }, { out: { dKeys: zeros(1, 2, 4, 2) } }],
      ops.productKeyLookupBackward,
    ],
    embeddingBag: [[table, [0, 1, 2, 3], weights, { out: zeros(2, 4) }], ops.embeddingBag],
    'embeddingBag, ragged': [
      [
        table,
        device.zeros([4], 'int32'),
        zeros(4),
        { offsets: device.tensor([0, 4], [2], 'int32') },
      ],
      ops.embeddingBag,
    ],
    embeddingBagBackward: [
      [x, table, indices, weights, { needs: { table: true }, algorithm: 'sorted' }],
      ops.embeddingBagBackward as never,
    ],
    rmsNorm: [[x, zeros(4), { eps: 1e-6, out: zeros(2, 4) }], ops.rmsNorm],
    rmsNormBackward: [[x, x, zeros(4), { eps: 1, into: { gain: zeros(4) } }], ops.rmsNormBackward],
    layerNorm: [[x, zeros(4), zeros(4), { eps: 1e-6, out: zeros(2, 4) }], ops.layerNorm],
    layerNormBackward: [
      [x, x, zeros(4), { eps: 1, needs: { x: true }, into: { bias: zeros(4) } }],
      ops.layerNormBackward,
    ],
    rope: [[qkv, { theta: 100, offset: 3, out: zeros(1, 2, 1, 4) }], ops.rope],
    ropeBackward: [[qkv, { positions: device.zeros([2], 'int32') }], ops.ropeBackward],
    embedding: [[table, [0, 1], { out: zeros(2, 4) }], ops.embedding],
    embeddingBackward: [[x, table, [3, 4]], ops.embeddingBackward],
    dropout: [[x, { p: 0.5, seed: 1, step: 2, out: zeros(2, 4) }], ops.dropout],
    dropoutBackward: [[x, { p: 0.5, seed: 1, step: 2 }], ops.dropoutBackward],
    multinomial: [
      [x, { temperature: 2, topK: 3, topP: 0.5, samples: 2, seed: 1, step: 2 }],
      ops.multinomial,
    ],
    causalConv1d: [
      [zeros(1, 2, 4), zeros(4, 3), zeros(4), { dilation: 2, out: zeros(1, 2, 4) }],
      ops.causalConv1d,
    ],
    causalConv1dBackward: [
      [zeros(1, 2, 4), zeros(1, 2, 4), zeros(4, 3), { needs: { x: true }, dilation: 2 }],
      ops.causalConv1dBackward,
    ],
    concat: [[[x, x], 1, { out: zeros(2, 8) }], ops.concat],
    concatBackward: [[x, 1, [1, 3]], ops.concatBackward],
    slice: [[x, { begin: [0, 1], end: [2, -1], out: zeros(2, 2) }], ops.slice],
    sliceBackward: [[zeros(2, 2), [2, 4], { begin: [0, 1], end: [2, -1] }], ops.sliceBackward],
    permute: [[x, [1, 0], { out: zeros(4, 2) }], ops.permute],
    permuteBackward: [[x, [1, 0], {}], ops.permuteBackward],
    softmax: [[x, { out: zeros(2, 4) }], ops.softmax],
    softmaxBackward: [[x, x, {}], ops.softmaxBackward],
    siluGate: [[x, x, {}], ops.siluGate],
    siluGateBackward: [[x, x, x, { out: { dy: zeros(2, 4) } }], ops.siluGateBackward],
    sigmoidGate: [[x, zeros(2, 1), {}], ops.sigmoidGate],
    sigmoidGateBackward: [[x, x, zeros(2, 1), {}], ops.sigmoidGateBackward],
    gelu: [[x, {}], ops.gelu],
    geluBackward: [[x, x, {}], ops.geluBackward],
    add: [[x, x, { alpha: 1, beta: 2 }], ops.add],
    div: [[2, x, {}], ops.div],
    tanh: [[x, {}], ops.tanh],
    sum: [[x, { axes: [1], keepDims: true }], ops.sum],
    meanBackward: [[zeros(2), [2, 4], { axes: -1 }], ops.meanBackward],
    maxBackward: [[zeros(2), x, zeros(2), { axes: [1], keepDims: false }], ops.maxBackward],
    matmul: [[x, x, { transposeX: true, transposeY: false }], ops.matmul],
    matmulBackward: [[zeros(2, 2), x, x, { transposeY: true, needs: {} }], ops.matmulBackward],
    crossEntropy: [[x, targets, {}], ops.crossEntropy],
    crossEntropyBackward: [[zeros(2), x, targets, {}], ops.crossEntropyBackward],
    targetWeights: [[targets, { ignoreIndex: -100 }], ops.targetWeights],
    attention: [[qkv, qkv, qkv, { scale: 1, causal: true }], ops.attention],
    attentionBackward: [[qkv, heads, { scale: 1 }], ops.attentionBackward],
    peer: [[x, table, table, indices, weights, { activation: 'relu' }], ops.peer],
    peerBackward: [[x, saved, { activation: 'relu' }], ops.peerBackward],
  }
}

function layerCalls(device: Device): Record<string, Call> {
  const small = { inputDim: 4, heads: 1, knn: 2, nKeys: 4, keyDim: 4 }
  const layer = new main.MemoryLayer(device, small)
  const linear = new nn.Linear(device, { inputDim: 4, outputDim: 4 })
  const embedded = new nn.Embedding(device, { count: 16, dim: 4 })
  const { table } = embedded
  const chosen = new main.Sgd(embedded.parameters(), { lr: 0.1 })
  const embedding = new nn.Embedding(device, { count: 4, dim: 4 })
  const loss = new nn.CrossEntropy(device)
  const sgd = new main.Sgd(linear.parameters(), { lr: 0.1 })
  const x = Float32Array.of(1, 2, 3, 4)
  const rates = { lr: 0.1, weightDecay: 0.1, eps: 1e-8 }
  const made =
    (make: (...args: never[]) => { dispose(): void }) =>
    (...args: never[]) =>
      make(...args).dispose()
  return {
    MemoryLayer: [
      [device, { ...small, values: undefined, gate: 'silu', outputGate: false, dtype: 'float32' }],
      made((d, o) => new main.MemoryLayer(d, o)),
    ],
    PeerLayer: [
      [device, { ...small, activation: 'gelu' }],
      made((d, o) => new main.PeerLayer(d, o)),
    ],
    Linear: [
      [device, { inputDim: 4, outputDim: 4, bias: true, seed: 1 }],
      made((d, o) => new nn.Linear(d, o)),
    ],
    FeedForward: [
      [device, { dim: 4, hiddenDim: 4, activation: 'gelu' }],
      made((d, o) => new nn.FeedForward(d, o)),
    ],
    RmsNorm: [[device, { dim: 4, eps: 1 }], made((d, o) => new nn.RmsNorm(d, o))],
    Attention: [
      [device, { dim: 4, heads: 2, causal: true }],
      made((d, o) => new nn.Attention(d, o)),
    ],
    Embedding: [[device, { count: 4, dim: 4 }], made((d, o) => new nn.Embedding(d, o))],
    MixtureOfExperts: [
      [device, { dim: 4, hiddenDim: 4, experts: 2, capacity: 1 }],
      made((d, o) => new nn.MixtureOfExperts(d, o)),
    ],
    'memory.forward': [[x], layer.forward.bind(layer) as never],
    'memory.infer': [[x], layer.infer.bind(layer) as never],
    'memory.backward': [[layer.forward(x).context, x], layer.backward.bind(layer) as never],
    'memory.loadStateDict': [[layer.stateDict()], layer.loadStateDict.bind(layer) as never],
    'linear.forward': [[x], linear.forward.bind(linear) as never],
    'linear.backward': [[linear.forward(x).context, x], linear.backward.bind(linear) as never],
    'linear.loadStateDict': [[linear.stateDict()], linear.loadStateDict.bind(linear) as never],
    'embedding.forward': [[[1, 2]], embedding.forward.bind(embedding) as never],
    'embedding.backward': [
      [embedding.forward([1]).context, device.zeros([1, 4])],
      embedding.backward.bind(embedding) as never,
    ],
    'loss.forward': [[device.zeros([2, 4]), device.zeros([2], 'int32')], loss.forward.bind(loss)],
    'table.load': [[device.zeros([16, 4])], layer.values.load.bind(layer.values) as never],
    Sgd: [[linear.parameters(), { lr: 0.1, weightDecay: 0 }], made((p, o) => new main.Sgd(p, o))],
    Adagrad: [[linear.parameters(), rates], made((p, o) => new main.Adagrad(p, o))],
    AdamW: [
      [linear.parameters(), { ...rates, betas: [0.9, 0.99], tableMode: 'lazy' }],
      made((p, o) => new main.AdamW(p, o)),
    ],
    clipGradNorm: [[linear.parameters(), 1], main.clipGradNorm],
    'Optimizer.step': [[{ rows: [1, 2] }], (o) => chosen.step(o)],
    'Optimizer.step by table': [
      [table, [1]],
      (t, rows) => chosen.step({ rows: new Map([[t, rows]]) }),
    ],
    'ValueTable.apply': [[{}], (patch) => table.apply(patch)],
    'RowPatch.load': [['/nowhere/patch'], main.RowPatch.load],
    'RowPatch.stack': [[[]], main.RowPatch.stack],
    'optimizer.loadStateDict': [[sgd.stateDict()], sgd.loadStateDict.bind(sgd) as never],
    'optimizer.lr': [
      [0.1],
      (lr) => {
        sgd.lr = lr
        sgd.step()
      },
    ],
  }
}

onEveryDevice((device) => {
  testSpoiledCalls(device, {
    ...dataCalls(device),
    ...operationCalls(device),
    ...layerCalls(device),
  })
})
