// Every operation with the float32 tensors that it reads and writes, for overlap.test.ts.

import { type Device, ops, type Tensor } from '../../lib/index.js'

export type Tensors = Record<string, Tensor<'float32'>>
type Shapes = Record<string, readonly number[]>

export interface Case {
  /** float32 inputs by the names of messages. */
  inputs: Shapes
  /** float32 outputs by the names of messages. */
  outputs: Shapes
  /** The inputs that each output may be. */
  inPlace?: Record<string, readonly string[]>
  run(inputs: Tensors, out: Tensors): Tensors
}

const square = [4, 4] as const
export const elements = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** The operations, by name, with inputs of their own device for what is not float32. */
export function overlapCases(device: Device): Record<string, Case> {
  const int32 = (shape: readonly number[], limit: number) =>
    device.tensor(
      Array.from({ length: elements(shape) }, (_, i) => (i * 7 + 3) % limit),
      shape,
      'int32',
    )
  const targets = int32([4], 4)
  const offsets = device.tensor(Int32Array.of(0, 3, 4))
  const indices = int32(square, 4)
  const slots = int32([4, 1, 4], 16)
  // The outputs that are given, by their last names: { 'out.dx': t } is { dx: t }.
  const named = (out: Tensors, prefix = 'out') =>
    Object.fromEntries(
      Object.entries(out)
        .filter(([name]) => name.startsWith(`${prefix}.`))
        .map(([name, tensor]) => [name.slice(prefix.length + 1), tensor]),
    )
  const single = (out: Tensors) => (out['out'] ? { out: out['out'] } : {})

  const elementwise = (name: 'relu' | 'gelu' | 'silu' | 'sigmoid'): Record<string, Case> => ({
    [name]: {
      inputs: { x: square },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ x }, out) => ({ out: ops[name](x!, single(out)) }),
    },
    [`${name}Backward`]: {
      inputs: { dy: square, x: square },
      outputs: { out: square },
      inPlace: { out: ['dy', 'x'] },
      run: ({ dy, x }, out) => ({ out: ops[`${name}Backward`](dy!, x!, single(out)) }),
    },
  })

  const binary = (name: 'sub' | 'mul' | 'div'): Record<string, Case> => ({
    [name]: {
      inputs: { x: square, y: square },
      outputs: { out: square },
      inPlace: { out: ['x', 'y'] },
      run: ({ x, y }, out) => ({ out: ops[name](x!, y!, single(out)) }),
    },
  })
  const unary = (name: 'exp' | 'log' | 'sqrt' | 'tanh'): Record<string, Case> => ({
    [name]: {
      inputs: { x: square },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ x }, out) => ({ out: ops[name](x!, single(out)) }),
    },
  })
  const reduction = (name: 'sum' | 'mean' | 'max'): Record<string, Case> => ({
    [name]: {
      inputs: { x: square },
      outputs: { out: [4] },
      run: ({ x }, out) => ({ out: ops[name](x!, { axes: 0, ...single(out) }) }),
    },
    ...(name !== 'max' && {
      [`${name}Backward`]: {
        inputs: { dy: [4] },
        outputs: { out: square },
        run: ({ dy }: Tensors, out: Tensors) => ({
          out: ops[`${name}Backward`](dy!, square, { axes: 0, ...single(out) }),
        }),
      },
    }),
  })

  const heads = [1, 4, 2, 2] as const
  const sequence = [1, 4, 4] as const
  const query = [4, 1, 2, 2] as const
  const keys = [1, 2, 4, 2] as const
  const found = [4, 1, 4] as const
  return {
    ...elementwise('relu'),
    ...elementwise('gelu'),
    ...elementwise('silu'),
    ...elementwise('sigmoid'),
    add: {
      inputs: { x: square, y: square },
      outputs: { out: square },
      inPlace: { out: ['x', 'y'] },
      run: ({ x, y }, out) => ({ out: ops.add(x!, y!, { alpha: 2, beta: 3, ...single(out) }) }),
    },
    ...binary('sub'),
    ...binary('mul'),
    ...binary('div'),
    'mul of a row and a column': {
      inputs: { x: [4], y: [4, 1] },
      outputs: { out: square },
      run: ({ x, y }, out) => ({ out: ops.mul(x!, y!, single(out)) }),
    },
    ...unary('exp'),
    ...unary('log'),
    ...unary('sqrt'),
    ...unary('tanh'),
    ...reduction('sum'),
    ...reduction('mean'),
    ...reduction('max'),
    maxBackward: {
      inputs: { dy: [4], x: square, y: [4] },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ dy, x, y }, out) => ({
        out: ops.maxBackward(dy!, x!, y!, { axes: 1, ...single(out) }),
      }),
    },
    matmul: {
      inputs: { x: square, y: square },
      outputs: { out: square },
      run: ({ x, y }, out) => ({ out: ops.matmul(x!, y!, single(out)) }),
    },
    matmulBackward: {
      inputs: { dOut: square, x: square, y: square },
      outputs: { 'out.dx': square, 'out.dy': square },
      run: ({ dOut, x, y }, out) => {
        const { dx, dy } = ops.matmulBackward(dOut!, x!, y!, { out: named(out) })
        return { 'out.dx': dx, 'out.dy': dy }
      },
    },
    linear: {
      inputs: { x: square, weight: square, bias: [4] },
      outputs: { out: square },
      run: ({ x, weight, bias }, out) => ({ out: ops.linear(x!, weight!, bias, single(out)) }),
    },
    linearBackward: {
      inputs: { dy: square, x: square, weight: square },
      outputs: { 'out.dx': square, 'into.weight': square, 'into.bias': [4] },
      run: ({ dy, x, weight }, out) => {
        const options = { out: named(out), into: named(out, 'into') }
        const { dx, dWeight, dBias } = ops.linearBackward(dy!, x!, weight!, options)
        return { 'out.dx': dx, 'into.weight': dWeight, 'into.bias': dBias }
      },
    },
    groupedLinear: {
      inputs: { x: square, weights: [2, 4, 4], bias: [2, 4] },
      outputs: { out: square },
      run: ({ x, weights, bias }, out) => ({
        out: ops.groupedLinear(x!, weights!, offsets, bias, single(out)),
      }),
    },
    groupedLinearBackward: {
      inputs: { dy: square, x: square, weights: [2, 4, 4] },
      outputs: { 'out.dx': square, 'into.weights': [2, 4, 4], 'into.bias': [2, 4] },
      run: ({ dy, x, weights }, out) => {
        const options = { out: named(out), into: named(out, 'into') }
        const g = ops.groupedLinearBackward(dy!, x!, weights!, offsets, options)
        return { 'out.dx': g.dx, 'into.weights': g.dWeights, 'into.bias': g.dBias }
      },
    },
    softmax: {
      inputs: { x: square },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ x }, out) => ({ out: ops.softmax(x!, single(out)) }),
    },
    softmaxBackward: {
      inputs: { dy: square, y: square },
      outputs: { out: square },
      inPlace: { out: ['dy', 'y'] },
      run: ({ dy, y }, out) => ({ out: ops.softmaxBackward(dy!, y!, single(out)) }),
    },
    rmsNorm: {
      inputs: { x: square, gain: [4] },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ x, gain }, out) => ({ out: ops.rmsNorm(x!, gain, single(out)) }),
    },
    rmsNormBackward: {
      inputs: { dy: square, x: square, gain: [4] },
      outputs: { 'out.dx': square, 'into.gain': [4] },
      run: ({ dy, x, gain }, out) => {
        const options = { out: named(out), into: named(out, 'into') }
        const { dx, dGain } = ops.rmsNormBackward(dy!, x!, gain, options)
        return { 'out.dx': dx, 'into.gain': dGain! }
      },
    },
    layerNorm: {
      inputs: { x: square, weight: [4], bias: [4] },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ x, weight, bias }, out) => ({ out: ops.layerNorm(x!, weight, bias, single(out)) }),
    },
    layerNormBackward: {
      inputs: { dy: square, x: square, weight: [4] },
      outputs: { 'out.dx': square, 'into.weight': [4], 'into.bias': [4] },
      run: ({ dy, x, weight }, out) => {
        const options = { out: named(out), into: named(out, 'into') }
        const { dx, dWeight, dBias } = ops.layerNormBackward(dy!, x!, weight, options)
        return { 'out.dx': dx!, 'into.weight': dWeight!, 'into.bias': dBias! }
      },
    },
    rope: {
      inputs: { x: heads },
      outputs: { out: heads },
      inPlace: { out: ['x'] },
      run: ({ x }, out) => ({ out: ops.rope(x!, { offset: 3, ...single(out) }) }),
    },
    ropeBackward: {
      inputs: { dy: heads },
      outputs: { out: heads },
      inPlace: { out: ['dy'] },
      run: ({ dy }, out) => ({ out: ops.ropeBackward(dy!, { offset: 3, ...single(out) }) }),
    },
    embedding: {
      inputs: { table: square, scales: [4] },
      outputs: { out: square },
      run: ({ table, scales }, out) => ({
        out: ops.embedding(table!, targets, { scales: scales!, ...single(out) }),
      }),
    },
    dropout: {
      inputs: { x: square },
      outputs: { out: square },
      inPlace: { out: ['x'] },
      run: ({ x }, out) => ({ out: ops.dropout(x!, { p: 0.5, ...single(out) }) }),
    },
    dropoutBackward: {
      inputs: { dy: square },
      outputs: { out: square },
      inPlace: { out: ['dy'] },
      run: ({ dy }, out) => ({ out: ops.dropoutBackward(dy!, { p: 0.5, ...single(out) }) }),
    },
    causalConv1d: {
      inputs: { x: sequence, weight: square, bias: [4] },
      outputs: { out: sequence },
      run: ({ x, weight, bias }, out) => ({
        out: ops.causalConv1d(x!, weight!, bias, single(out)),
      }),
    },
    causalConv1dBackward: {
      inputs: { dy: sequence, x: sequence, weight: square },
      outputs: { 'out.dx': sequence, 'into.weight': square, 'into.bias': [4] },
      run: ({ dy, x, weight }, out) => {
        const options = { out: named(out), into: named(out, 'into') }
        const { dx, dWeight, dBias } = ops.causalConv1dBackward(dy!, x!, weight!, options)
        return { 'out.dx': dx!, 'into.weight': dWeight!, 'into.bias': dBias! }
      },
    },
    concat: {
      inputs: { tensors: square },
      outputs: { out: [4, 8] },
      run: ({ tensors }, out) => ({ out: ops.concat([tensors!, tensors!], 1, single(out)) }),
    },
    slice: {
      inputs: { x: square },
      outputs: { out: square },
      run: ({ x }, out) => ({ out: ops.slice(x!, single(out)) }),
    },
    sliceBackward: {
      inputs: { dy: [2, 4] },
      outputs: { out: square },
      run: ({ dy }, out) => ({
        out: ops.sliceBackward(dy!, square, { begin: [1], end: [3], ...single(out) }),
      }),
    },
    permute: {
      inputs: { x: square },
      outputs: { out: square },
      run: ({ x }, out) => ({ out: ops.permute(x!, [1, 0], single(out)) }),
    },
    siluGate: {
      inputs: { y: square, a: square },
      outputs: { out: square },
      inPlace: { out: ['y', 'a'] },
      run: ({ y, a }, out) => ({ out: ops.siluGate(y!, a!, single(out)) }),
    },
    siluGateBackward: {
      inputs: { dz: square, y: square, a: square },
      outputs: { 'out.dy': square, 'out.da': square },
      inPlace: { 'out.dy': ['dz', 'y', 'a'], 'out.da': ['dz', 'y', 'a'] },
      run: ({ dz, y, a }, out) => {
        const { dy, da } = ops.siluGateBackward(dz!, y!, a!, { out: named(out) })
        return { 'out.dy': dy, 'out.da': da }
      },
    },
    sigmoidGate: {
      inputs: { y: square, g: [4, 1] },
      outputs: { out: square },
      inPlace: { out: ['y'] },
      run: ({ y, g }, out) => ({ out: ops.sigmoidGate(y!, g!, single(out)) }),
    },
    sigmoidGateBackward: {
      inputs: { dOut: square, y: square, g: [4, 1] },
      outputs: { 'out.dy': square, 'out.dg': [4, 1] },
      inPlace: { 'out.dy': ['dOut', 'y'] },
      run: ({ dOut, y, g }, out) => {
        const { dy, dg } = ops.sigmoidGateBackward(dOut!, y!, g!, { out: named(out) })
        return { 'out.dy': dy, 'out.dg': dg }
      },
    },
    'sigmoidGateBackward of one column': {
      inputs: { dOut: [4, 1], y: [4, 1], g: [4, 1] },
      outputs: { 'out.dy': [4, 1], 'out.dg': [4, 1] },
      inPlace: { 'out.dy': ['dOut', 'y'], 'out.dg': ['dOut', 'y'] },
      run: ({ dOut, y, g }, out) => {
        const { dy, dg } = ops.sigmoidGateBackward(dOut!, y!, g!, { out: named(out) })
        return { 'out.dy': dy, 'out.dg': dg }
      },
    },
    topK: {
      inputs: { x: square },
      outputs: { 'out.values': square },
      run: ({ x }, out) => ({ 'out.values': ops.topK(x!, 4, { out: named(out) }).values }),
    },
    crossEntropy: {
      inputs: { logits: square },
      outputs: { out: [4] },
      run: ({ logits }, out) => ({ out: ops.crossEntropy(logits!, targets, single(out)) }),
    },
    crossEntropyBackward: {
      inputs: { dLoss: [4], logits: square },
      outputs: { out: square },
      inPlace: { out: ['logits'] },
      run: ({ dLoss, logits }, out) => ({
        out: ops.crossEntropyBackward(dLoss!, logits!, targets, single(out)),
      }),
    },
    attention: {
      inputs: { q: heads, k: heads, v: heads },
      outputs: { 'out.y': heads, 'out.lse': [1, 2, 4] },
      run: ({ q, k, v }, out) => {
        const { y, lse } = ops.attention(q!, k!, v!, { out: named(out) })
        return { 'out.y': y, 'out.lse': lse }
      },
    },
    attentionBackward: {
      inputs: { dy: heads, y: heads, lse: [1, 2, 4], q: heads, k: heads, v: heads },
      outputs: { 'out.dq': heads, 'out.dk': heads, 'out.dv': heads },
      run: ({ dy, y, lse, q, k, v }, out) => {
        const saved = { y: y!, lse: lse!, q: q!, k: k!, v: v! }
        const { dq, dk, dv } = ops.attentionBackward(dy!, saved, { out: named(out) })
        return { 'out.dq': dq, 'out.dk': dk, 'out.dv': dv }
      },
    },
    productKeyScores: {
      inputs: { query, keys },
      outputs: { out: [4, 1, 2, 4] },
      run: (t, out) => ({ out: ops.productKeyScores(t['query']!, t['keys']!, single(out)) }),
    },
    productKeyLookup: {
      inputs: { query, keys },
      outputs: { 'out.scores': found, 'out.weights': found },
      run: (t, out) => {
        const options = { knn: 4, out: named(out) }
        const { scores, weights } = ops.productKeyLookup(t['query']!, t['keys']!, options)
        return { 'out.scores': scores, 'out.weights': weights }
      },
    },
    productKeyLookupBackward: {
      inputs: { dWeights: found, 'lookup.scores': found, 'lookup.weights': found, query, keys },
      outputs: { 'out.dQuery': query, 'out.dKeys': keys },
      run: (t, out) => {
        const [scores, weights] = [t['lookup.scores']!, t['lookup.weights']!]
        const { dQuery, dKeys } = ops.productKeyLookupBackward(
          { scores, weights, indices: slots, gate: 'softmax', knn: 4 },
          t['dWeights']!,
          { query: t['query']!, keys: t['keys']! },
          { out: named(out) },
        )
        return { 'out.dQuery': dQuery, 'out.dKeys': dKeys }
      },
    },
    embeddingBag: {
      inputs: { table: square, weights: square, scales: [4] },
      outputs: { out: square },
      run: ({ table, weights, scales }, out) => ({
        out: ops.embeddingBag(table!, indices, weights!, { scales: scales!, ...single(out) }),
      }),
    },
    embeddingBagBackward: {
      inputs: { dy: square, table: square, weights: square },
      outputs: { 'out.dWeights': square },
      run: ({ dy, table, weights }, out) => {
        const options = { out: named(out) }
        const result = ops.embeddingBagBackward(dy!, table!, indices, weights!, options)
        return { 'out.dWeights': result.dWeights, dTable: result.dTable.toDense() }
      },
    },
    peer: {
      inputs: { x: square, down: square, up: square, weights: square },
      outputs: { 'out.output': square, 'out.u': square },
      run: ({ x, down, up, weights }, out) => {
        const options = { out: named(out) }
        const { output, u } = ops.peer(x!, down!, up!, indices, weights!, options)
        return { 'out.output': output, 'out.u': u }
      },
    },
    peerBackward: {
      inputs: { dOut: square, x: square, down: square, up: square, weights: square, u: square },
      outputs: { 'out.dx': square, 'out.dWeights': square },
      run: ({ dOut, x, down, up, weights, u }, out) => {
        const saved = { x: x!, down: down!, up: up!, indices, weights: weights!, u: u! }
        const { dx, dWeights } = ops.peerBackward(dOut!, saved, { out: named(out) })
        return { 'out.dx': dx, 'out.dWeights': dWeights }
      },
    },
  }
}
