// The public calls that the fuzzer makes. `t()` is a tensor, or anything. A call returns what it
// made, where that has to be disposed.

import { basename, dirname, join } from 'node:path'
import { dataAndShape, dtype, hostile, number, options, shape, typedArray } from './values.mjs'

const seed = (b) => b.below(9)
const small = (b) => 1 + b.below(5)
const flag = (b) => b.below(2) === 1

const queryOptions = {
  inputDim: () => 4,
  heads: small,
  knn: small,
  nKeys: small,
  keyDim: (b) => 2 * small(b),
  queryBias: flag,
  queryNorm: (b) => b.of(['none', 'rms']),
  seed,
}

function tensorCalls({ device, other }) {
  return [
    (b) => {
      const [data, sizes] = dataAndShape(b)
      return [device.tensor(data, sizes, b.below(2) ? undefined : dtype(b))]
    },
    (b) => [device.empty(b.below(8) ? shape(b) : hostile(b), dtype(b))],
    (b) => [device.zeros(b.below(8) ? shape(b) : hostile(b), dtype(b))],
    (b) => [device.normal(shape(b), options(b, { mean: number, std: number, seed, dtype }))],
    (b) => [device.uniform(shape(b), options(b, { low: number, high: number, seed, dtype }))],
    (b, t) => t().write?.(b.below(4) ? typedArray(b) : hostile(b)),
    (_, t) => t().copyFrom?.(t()),
    (b, t) => [t().to(b.of([other, device, dtype(b), hostile(b)]))],
    (b, t) => [t().reshape(b.below(8) ? shape(b) : hostile(b))],
    (b, t) => [
      t().rows(b.below(4) ? b.below(5) : hostile(b), b.below(4) ? b.below(5) : hostile(b)),
    ],
    (_, t) => t().data?.(),
    (_, t) => void t().dataSync?.(),
  ].map(onTensors)
}

// What is no tensor has no such methods: that error is the program's own.
function onTensors(call) {
  return (b, t) => {
    const tensor = () => {
      const value = t()
      return typeof value?.dataSync === 'function' ? value : { to() {}, reshape() {}, rows() {} }
    }
    const made = call(b, tensor)
    return Array.isArray(made) ? made.filter(Boolean) : made
  }
}

function operationCalls({ ops }) {
  const out = (b, t) => (b.below(2) ? undefined : options(b, { out: t }))
  const dispose = (...results) => results.filter(Boolean)
  return [
    (b, t) => dispose(ops.linear(t(), t(), b.below(2) ? t() : undefined, out(b, t))),
    (b, t) => dispose(...Object.values(ops.linearBackward(t(), t(), t(), out(b, t)))),
    (b, t) => dispose(ops.add(t(), t(), options(b, { alpha: number, beta: number, out: t }))),
    (b, t) => {
      const operand = () => (b.below(4) ? t() : number(b))
      return dispose(ops[b.of(['sub', 'mul', 'div'])](operand(), operand(), out(b, t)))
    },
    (b, t) => dispose(ops[b.of(['exp', 'log', 'sqrt', 'tanh'])](t(), out(b, t))),
    (b, t) => {
      const reduced = options(b, { axes: (b) => b.of([0, -1, [0, 1], hostile(b)]), keepDims: flag })
      const y = ops[b.of(['sum', 'mean', 'max'])](t(), reduced)
      const dx = b.below(2) ? ops.maxBackward(t(), t(), y, reduced) : undefined
      return dispose(y, dx, b.below(2) ? ops.sumBackward(y, shape(b), reduced) : undefined)
    },
    (b, t) => dispose(ops.matmul(t(), t(), options(b, { transposeX: flag, transposeY: flag }))),
    (b, t) => {
      const names = { transposeX: flag, transposeY: flag }
      return dispose(...Object.values(ops.matmulBackward(t(), t(), t(), options(b, names))))
    },
    (b, t) => dispose(ops.softmax(t(), out(b, t))),
    (b, t) => dispose(ops.softmaxBackward(t(), t(), out(b, t))),
    (b, t) => dispose(ops.rmsNorm(t(), t(), options(b, { eps: number, out: t }))),
    (b, t) =>
      dispose(...Object.values(ops.rmsNormBackward(t(), t(), t(), options(b, { eps: number })))),
    (b, t) => dispose(...Object.values(ops.topK(t(), b.below(4) ? small(b) : hostile(b)))),
    (b, t) => dispose(ops.layerNorm(t(), t(), t(), options(b, { eps: number, out: t }))),
    (_, t) => dispose(...Object.values(ops.layerNormBackward(t(), t(), t()))),
    (b, t) =>
      dispose(ops.rope(t(), options(b, { theta: number, offset: small, positions: t, out: t }))),
    (b, t) => dispose(ops.embedding(t(), b.below(2) ? t() : typedArray(b), options(b, { out: t }))),
    (b, t) => dispose(ops.dropout(t(), options(b, { p: number, seed: small, step: small }))),
    (b, t) => {
      const names = { temperature: number, topK: small, topP: number, samples: small, out: t }
      return dispose(ops.multinomial(t(), options(b, names)))
    },
    (b, t) => dispose(ops.causalConv1d(t(), t(), t(), options(b, { dilation: small }))),
    (_, t) => dispose(...Object.values(ops.causalConv1dBackward(t(), t(), t()))),
    (b, t) => dispose(ops.concat([t(), t()], small(b), out(b, t))),
    (b, t) => dispose(ops.slice(t(), options(b, { begin: hostile, end: hostile, out: t }))),
    (b, t) => dispose(ops.permute(t(), b.below(2) ? [1, 0] : hostile(b), out(b, t))),
    (b, t) => dispose(ops[b.of(['relu', 'gelu', 'silu', 'sigmoid'])](t(), out(b, t))),
    (b, t) => dispose(ops[b.of(['reluBackward', 'geluBackward'])](t(), t(), out(b, t))),
    (b, t) => dispose(ops.siluGate(t(), t(), out(b, t))),
    (b, t) => dispose(ops.sigmoidGate(t(), t(), out(b, t))),
    (b, t) => {
      const index = b.below(2) ? t() : typedArray(b)
      return dispose(
        ops.embeddingBag(t(), index, t(), options(b, { offsets: t, scales: t, out: t })),
      )
    },
    (b, t) => {
      const names = { offsets: t, scales: t, needs: hostile, algorithm: () => 'sorted' }
      const made = ops.embeddingBagBackward(t(), t(), t(), t(), options(b, names))
      const dense = made.dTable?.toDense()
      return dispose(made.dWeights, made.dTable, dense)
    },
    (_, t) => dispose(ops.productKeyScores(t(), t())),
    (b, t) => {
      const gate = (b) => b.of(['softmax', 'relu', 'sigmoid', 'none'])
      const lookup = ops.productKeyLookup(t(), t(), options(b, { knn: small, gate, mask: t }))
      const { scores, indices, weights } = lookup
      const inputs = options(b, { query: t, keys: t })
      const made = b.below(2) ? ops.productKeyLookupBackward(lookup, t(), inputs) : {}
      return dispose(scores, indices, weights, ...Object.values(made))
    },
    (b, t) => dispose(...Object.values(ops.attention(t(), t(), t(), options(b, { causal: flag })))),
    (_, t) => dispose(ops.crossEntropy(t(), t())),
    (_, t) => dispose(...Object.values(ops.peer(t(), t(), t(), t(), t()))),
  ]
}

/** What `body` returns, the resource being disposed then. */
function using(resource, body) {
  try {
    return body(resource)
  } finally {
    resource.dispose()
  }
}

function layerCalls(ml, { device }) {
  const make = (b) => {
    const names = { ...queryOptions, outputDim: small, valueDim: small, outputGate: flag }
    const gate = (b) => b.of(['silu', 'none'])
    const type = (b) => b.of(['float32', 'bfloat16', 'float16'])
    return new ml.MemoryLayer(device, options(b, { ...names, gate, dtype: type }))
  }
  const optimizerOptions = {
    lr: number,
    weightDecay: number,
    eps: number,
    betas: (b) => [number(b), number(b)],
    tableMode: (b) => b.of(['lazy', 'dense']),
  }
  return [
    (b, t) =>
      using(make(b), (layer) => {
        const { output, context } = layer.forward(t())
        const dx = layer.backward(context, b.below(2) ? output : t())
        return [output, dx]
      }),
    (b, t) =>
      using(make(b), (layer) => {
        const Rule = b.of([ml.Sgd, ml.Adagrad, ml.RowwiseAdagrad, ml.AdamW])
        const parameters = b.below(8) ? layer.parameters() : hostile(b)
        using(new Rule(parameters, options(b, optimizerOptions)), (optimizer) => {
          const { output, context } = layer.forward(t())
          layer.backward(context, output).dispose()
          output.dispose()
          if (b.below(4) === 0) optimizer.lr = hostile(b)
          optimizer.step()
          optimizer.zeroGrad()
          optimizer.loadStateDict(b.below(2) ? optimizer.stateDict() : options(b, { step: t }))
        })
      }),
    (b, t) =>
      using(make(b), (layer) => {
        const state = b.below(2) ? options(b, { keys: t, 'values.weight': t }) : hostile(b)
        layer.loadStateDict(state)
      }),
    (b) =>
      using(make(b), (layer) => {
        const maxNorm = b.below(2) ? number(b) : hostile(b)
        return [ml.clipGradNorm(b.below(4) ? layer.parameters() : hostile(b), maxNorm)]
      }),
    (b, t) =>
      using(
        new ml.PeerLayer(device, options(b, { ...queryOptions, outputDim: small })),
        (layer) => [layer.infer(t())],
      ),
    (b, t) => {
      const init = (b) => options(b, { std: number, seed })
      const names = { slots: small, dim: small, dtype, init }
      using(new ml.ValueTable(device, options(b, names)), (table) => table.load(t()))
    },
    (b) => void ml.openDevice(b.below(2) ? 'cpu' : hostile(b), options(b, { threads: () => 2 })),
  ]
}

function fileCalls(ml, { device }, path) {
  const anyPath = (b) => {
    const value = b.below(8) ? path : hostile(b)
    return typeof value === 'string' ? join(dirname(path), basename(value)) : value
  }
  return [
    async (b, t) => {
      const tensors = b.below(8) ? options(b, { a: t, b: t, '__proto__ ': t }) : hostile(b)
      const metadata = (b) => options(b, { k: () => 'v' })
      await ml.saveSafetensors(
        anyPath(b),
        tensors,
        options(b, { metadata, onProgress: () => () => {} }),
      )
    },
    async (b) => {
      const names = (b) => (b.below(2) ? ['a'] : hostile(b))
      const made = await ml.loadSafetensors(anyPath(b), { ...options(b, { names }), device })
      return Object.values(made)
    },
    (b) => {
      const rows = ml.ValueTable.map(
        anyPath(b),
        b.of(['a', 'b', hostile(b)]),
        options(b, { device: () => device }),
      )
      rows.dispose()
    },
  ]
}

export function callsOf(ml, held, path) {
  return [
    ...tensorCalls(held),
    ...operationCalls(ml),
    ...layerCalls(ml, held),
    ...fileCalls(ml, held, path),
  ]
}
