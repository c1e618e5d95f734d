// backward() through arithmetic, elementwise functions, reductions and products of matrices equals
// finite differences of the float64 references.

import { describe, expect, test } from 'vitest'
import { type Device, ops, type Tensor } from '../../lib/index.js'
import { combine, type NdArray } from '../reference/arithmetic.js'
import { matmul } from '../reference/matmul.js'
import { reduce } from '../reference/reduce.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { uniform } from '../support/random.js'

interface Case {
  shapes: number[][]
  run(...inputs: Tensor[]): Tensor
  reference(...inputs: NdArray[]): ArrayLike<number>
}

const one: NdArray = { shape: [], data: [1] }
const each = (f: (x: number) => number) => (x: NdArray) => combine(x, one, f).data

const cases: Record<string, Case> = {
  'add, broadcast both ways': {
    shapes: [
      [3, 1, 2],
      [4, 1],
    ],
    run: (x, y) => ops.add(x, y, { alpha: 2, beta: -0.5 }),
    reference: (x, y) => combine(x, y, (v, w) => 2 * v - 0.5 * w).data,
  },
  'add of a bias': {
    shapes: [[5, 3], [3]],
    run: (x, y) => ops.add(x, y),
    reference: (x, y) => combine(x, y, (v, w) => v + w).data,
  },
  sub: {
    shapes: [
      [2, 3],
      [2, 3],
    ],
    run: (x, y) => ops.sub(x, y),
    reference: (x, y) => combine(x, y, (v, w) => v - w).data,
  },
  'sub from a number': {
    shapes: [[2, 3]],
    run: (x) => ops.sub(1, x),
    reference: each((v) => 1 - v),
  },
  'mul of a column': {
    shapes: [
      [4, 3],
      [4, 1],
    ],
    run: (x, y) => ops.mul(x, y),
    reference: (x, y) => combine(x, y, (v, w) => v * w).data,
  },
  'mul of a tensor with itself': {
    shapes: [[5]],
    run: (x) => ops.mul(x, x),
    reference: each((v) => v * v),
  },
  'mul by a number': {
    shapes: [[5]],
    run: (x) => ops.mul(3, x),
    reference: each((v) => 3 * v),
  },
  'div by a row': {
    shapes: [[4, 3], [3]],
    run: (x, y) => ops.div(x, y),
    reference: (x, y) => combine(x, y, (v, w) => v / w).data,
  },
  'div of a number': {
    shapes: [[4, 3]],
    run: (x) => ops.div(2, x),
    reference: each((v) => 2 / v),
  },
  exp: { shapes: [[7]], run: (x) => ops.exp(x), reference: each(Math.exp) },
  log: { shapes: [[7]], run: (x) => ops.log(x), reference: each(Math.log) },
  sqrt: { shapes: [[7]], run: (x) => ops.sqrt(x), reference: each(Math.sqrt) },
  tanh: { shapes: [[7]], run: (x) => ops.tanh(x), reference: each(Math.tanh) },
  sum: {
    shapes: [[3, 4, 2]],
    run: (x) => ops.sum(x, { axes: [0, -1] }),
    reference: (x) => reduce('sum', x, [0, 2]),
  },
  'mean, kept': {
    shapes: [[3, 4]],
    run: (x) => ops.mean(x, { axes: 1, keepDims: true }),
    reference: (x) => reduce('mean', x, [1]),
  },
  max: {
    shapes: [[3, 4, 2]],
    run: (x) => ops.max(x, { axes: 1 }),
    reference: (x) => reduce('max', x, [1]),
  },
  matmul: {
    shapes: [
      [2, 3, 4],
      [4, 5],
    ],
    run: (x, y) => ops.matmul(x, y),
    reference: (x, y) => matmul(x, y).data,
  },
  'matmul, transposed': {
    shapes: [
      [4, 3],
      [2, 5, 4],
    ],
    run: (x, y) => ops.matmul(x, y, { transposeX: true, transposeY: true }),
    reference: (x, y) => matmul(x, y, { transposeX: true, transposeY: true }).data,
  },
  'a softmax made of them': {
    shapes: [[3, 5]],
    run: (x) => {
      const e = ops.exp(ops.sub(x, ops.max(x, { axes: 1, keepDims: true })))
      return ops.div(e, ops.sum(e, { axes: 1, keepDims: true }))
    },
    reference: (x) => {
      const e = { shape: x.shape, data: each(Math.exp)(x) }
      return combine(e, { shape: [3, 1], data: reduce('sum', e, [1]) }, (v, w) => v / w).data
    },
  },
}

onEveryDevice((device: Device) => {
  describe.each(Object.entries(cases))('%s', (_, { shapes, run, reference }) => {
    const leaves = () => arrays.map(({ data, shape }) => device.tensor(data, shape).requireGrad())
    // What is left to the collector is freed at any time, and changes what the device holds.
    const dispose = (...tensors: Tensor[]) => {
      for (const t of tensors) {
        t.grad?.dispose()
        t.dispose()
      }
    }
    // numbers in [0.5, 1.5): within every domain
    const arrays = shapes.map((shape, i): NdArray & { data: Float32Array } => ({
      shape,
      data: uniform(
        shape.reduce((a, b) => a * b, 1),
        i + 1,
      ).map((v) => 1 + v / 2),
    }))

    test('the gradients equal finite differences', async () => {
      const inputs = leaves()
      const y = run(...inputs)
      expect(y.requiresGrad).toBe(true)
      const dy = uniform(y.size, 9)
      const gradient = device.tensor(dy, y.shape)
      y.backward(gradient)
      for (const [i, input] of inputs.entries()) {
        expect(input.grad!.shape).toEqual(input.shape)
        const loss = (data: ArrayLike<number>) =>
          dot(dy, reference(...arrays.map((a, j) => (j === i ? { ...a, data } : a))))
        expectGradient(`of input ${i}`, await input.grad!.data(), loss, arrays[i]!.data)
      }
      dispose(y, gradient, ...inputs)
    })

    test('after it nothing but the inputs, their gradients and the root is held', async () => {
      const inputs = leaves()
      const step = async () => {
        const y = run(...inputs)
        const dy = device.zeros(y.shape)
        y.backward(dy)
        dispose(y, dy)
        await device.synchronize()
        return device.memory().allocated
      }
      const first = await step()
      expect(await step()).toBe(first)
      dispose(...inputs)
    })
  })

  test('only what a gradient needs is saved and computed', async () => {
    const x = device.tensor([1, 2]).requireGrad()
    const y = device.tensor([3, 4])
    const z = ops.mul(x, y)
    x.write([7, 8]) // read by no gradient
    z.backward(device.tensor([1, 1]))
    expect(Array.from(await x.grad!.data())).toEqual([3, 4])
    expect(y.grad).toBeUndefined()
    const other = ops.mul(x, y)
    y.write([0, 0])
    await errorOf('ERR_CONTEXT', () => other.backward(device.tensor([1, 1])))
    await errorOf('ERR_UNSUPPORTED', () => ops.exp(x, { out: device.zeros([2]) }))
  })
})
