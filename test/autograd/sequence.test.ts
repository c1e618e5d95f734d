// backward() through the operations of sequences: the gradient of each input equals the finite
// differences of the float64 reference.

import { expect, test } from 'vitest'
import { keep, ops, type Tensor, ValueTable } from '../../lib/index.js'
import { causalConv1d } from '../reference/causal-conv1d.js'
import { dropout } from '../reference/dropout.js'
import { embedding, embeddingBackward } from '../reference/embedding.js'
import { layerNorm } from '../reference/layer-norm.js'
import { concat, permute, slice } from '../reference/layout.js'
import { rope } from '../reference/rope.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

type Numbers = ArrayLike<number>

interface Case {
  shapes: Record<string, readonly number[]>
  run(inputs: Record<string, Tensor>): Tensor
  reference(inputs: Record<string, Numbers>): Numbers
}

const heads = [2, 3, 2, 4] as const
const box = [3, 4, 5] as const
const mask = { p: 0.4, seed: 3, step: 5 }
const conv = { B: 2, T: 5, C: 3, width: 3, dilation: 2 }
const ids = [1, -1, 0, 1, 2, 2]

const of = (data: Numbers | undefined) => ({ data: data!, shape: box })

onEveryDevice((device) => {
  const cases: Record<string, Case> = {
    rope: {
      shapes: { x: heads },
      run: ({ x }) => ops.rope(x!, { offset: 7, theta: 100 }),
      reference: ({ x }) =>
        rope(x!, { shape: heads, theta: 100, position: (_, t) => 7 + t, sign: 1 }),
    },
    'rope with positions': {
      shapes: { x: heads },
      run: ({ x }) => {
        const positions = device.tensor(Int32Array.of(4, 9, 2))
        const y = ops.rope(x!, { positions })
        positions.dispose()
        return y
      },
      reference: ({ x }) =>
        rope(x!, { shape: heads, theta: 10000, position: (_, t) => [4, 9, 2][t]!, sign: 1 }),
    },
    embedding: {
      shapes: { table: [4, 5] },
      run: ({ table }) => ops.embedding(table!, ids),
      reference: ({ table }) => embedding(table!, 5, ids),
    },
    layerNorm: {
      shapes: { x: [4, 6], weight: [6], bias: [6] },
      run: ({ x, weight, bias }) => ops.layerNorm(x!, weight, bias),
      reference: ({ x, weight, bias }) => layerNorm(x!, weight, bias, 6, 1e-5),
    },
    'layerNorm of x alone': {
      shapes: { x: [4, 6] },
      run: ({ x }) => ops.layerNorm(x!),
      reference: ({ x }) => layerNorm(x!, undefined, undefined, 6, 1e-5),
    },
    dropout: {
      shapes: { x: [3, 7] },
      run: ({ x }) => ops.dropout(x!, mask),
      reference: ({ x }) => dropout(x!, mask),
    },
    causalConv1d: {
      shapes: { x: [2, 5, 3], weight: [3, 3], bias: [3] },
      run: ({ x, weight, bias }) => ops.causalConv1d(x!, weight!, bias, { dilation: 2 }),
      reference: ({ x, weight, bias }) => causalConv1d(x!, weight!, bias, conv),
    },
    concat: {
      shapes: { a: box, b: box },
      run: ({ a, b }) => ops.concat([a!, b!, a!], -2),
      reference: ({ a, b }) => concat([of(a), of(b), of(a)], 1).data,
    },
    slice: {
      shapes: { x: box },
      run: ({ x }) => ops.slice(x!, { begin: [1, -2], end: [3, undefined, 4] }),
      reference: ({ x }) => slice(of(x), [1, 2, 0], [2, 2, 4]).data,
    },
    permute: {
      shapes: { x: box },
      run: ({ x }) => ops.permute(x!, [2, 0, 1]),
      reference: ({ x }) => permute(of(x), [2, 0, 1]).data,
    },
  }

  test.each(Object.entries(cases))('%s', async (_, { shapes, run, reference }) => {
    const inputs: Record<string, Tensor> = {}
    const data: Record<string, Float32Array> = {}
    for (const [i, [name, shape]] of Object.entries(shapes).entries()) {
      const random = randomTensor(device, shape, i + 1)
      inputs[name] = random.tensor.requireGrad()
      data[name] = random.data
    }
    const y = keep(run(inputs))
    const dy = randomTensor(device, y.shape, 9)
    y.backward(dy.tensor)
    expectClose('y', await y.data(), reference(data), 1e-5)
    for (const name of Object.keys(shapes)) {
      const loss = (v: Numbers) => dot(dy.data, reference({ ...data, [name]: v }))
      expectGradient(name, await inputs[name]!.grad!.data(), loss, data[name]!, 1e-4)
    }
  })

  test('an embedding of a table queues its read there', async () => {
    const table = new ValueTable(device, { slots: 5, dim: 6 })
    const y = ops.embedding(table.weight, device.tensor(Int32Array.from(ids), [2, 3]))
    const dy = randomTensor(device, [2, 3, 6], 4)
    y.backward(dy.tensor)
    expect(table.pendingReads).toBe(1)
    const gradient = await table.gradient().toDense().data()
    expectClose('gradient', gradient, embeddingBackward(dy.data, 5, 6, ids), 1e-6)
  })

  test('16-bit tensors pass through the layout with float32 gradients', async () => {
    const x = device.tensor([1, 2, 3, 4], [2, 2], 'bfloat16').requireGrad()
    const y = ops.concat([ops.permute(x, [1, 0]), ops.slice(x, { begin: [1] })], 0)
    expect(y.dtype).toBe('bfloat16')
    y.backward(device.tensor([1, 2, 3, 4, 5, 6], [3, 2]))
    expect([x.grad?.dtype, await x.grad?.data()]).toEqual([
      'float32',
      Float32Array.of(1, 3, 2 + 5, 4 + 6),
    ])
  })

  test('what has no gradient, and `out` while recording', async () => {
    const x = randomTensor(device, [2, 3], 1).tensor.requireGrad()
    expect(ops.multinomial(x).requiresGrad).toBe(false)
    expect(ops.dropoutBackward(x, mask).requiresGrad).toBe(false)
    expect(ops.permuteBackward(x, [1, 0]).requiresGrad).toBe(false)
    const out = device.zeros([2, 3])
    await errorOf('ERR_UNSUPPORTED', () => ops.dropout(x, { ...mask, out }))
    await errorOf('ERR_UNSUPPORTED', () => ops.slice(x, { out }))
  })
})
