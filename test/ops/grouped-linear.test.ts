import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/grouped-linear.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor, randomTensorOf } from '../support/random.js'

function offsetsOf(sizes: readonly number[]): number[] {
  const offsets = [0]
  for (const [g, size] of sizes.entries()) offsets.push(offsets[g]! + size)
  return offsets
}

// rows of each group, in, out
const cases = [
  [[3], 4, 5],
  [[1, 1, 1], 33, 2],
  [[2, 0, 5, 1], 17, 9],
  [[0, 0, 64, 0], 20, 65],
  [[65, 63, 1], 48, 40],
  [[30, 0, 100, 7], 100, 130],
  [[500, 3, 140], 36, 20],
] as const

onEveryDevice((device) => {
  const offsetsTensor = (offsets: readonly number[]) => device.tensor(Int32Array.from(offsets))

  async function expectReference(
    sizes: readonly number[],
    I: number,
    O: number,
    dtype: DType = 'float32',
  ) {
    const offsets = offsetsOf(sizes)
    const [R, G] = [offsets.at(-1)!, sizes.length]
    const x = await randomTensorOf(device, [R, I], 1, dtype)
    const weights = await randomTensorOf(device, [G, O, I], 2, dtype)
    const bias = randomTensor(device, [G, O], 3)
    const dy = randomTensor(device, [R, O], 4)
    const groups = offsetsTensor(offsets)

    const y = ops.groupedLinear(x.tensor, weights.tensor, groups, bias.tensor)
    const bare = ops.groupedLinear(x.tensor, weights.tensor, groups)
    const found = ops.groupedLinearBackward(dy.tensor, x.tensor, weights.tensor, groups)

    const [xs, ws] = [x.data, weights.data]
    const forward = (b?: Float32Array) => reference.groupedLinear(xs, ws, offsets, b, I, O)
    expectClose('y', await y.data(), forward(bias.data), 2e-6)
    expectClose('y without bias', await bare.data(), forward(), 2e-6)
    const wanted = reference.groupedLinearBackward(dy.data, xs, ws, offsets, I, O)
    expectClose('dx', await found.dx.data(), wanted.dx, 2e-6)
    expectClose('dWeights', await found.dWeights.data(), wanted.dWeights, 2e-6)
    expectClose('dBias', await found.dBias.data(), wanted.dBias, 2e-6)
  }

  test.each(cases)('groups of %j rows, %i -> %i, equal the reference', expectReference)

  describe.each<DType>(['float16', 'bfloat16'])('%s operands', (dtype) => {
    test.each(cases)('groups of %j rows, %i -> %i', (sizes, I, O) =>
      expectReference(sizes, I, O, dtype),
    )
  })

  test('any groups equal the reference', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        (sizes, I, O) => expectReference(sizes, I, O),
      ),
      { numRuns: 12 },
    ))

  test('one group is ops.linear', async () => {
    const [R, I, O] = [70, 33, 20]
    const x = randomTensor(device, [R, I], 1).tensor
    const weights = randomTensor(device, [1, O, I], 2).tensor
    const bias = randomTensor(device, [1, O], 3).tensor
    const dy = randomTensor(device, [R, O], 4).tensor
    const groups = offsetsTensor([0, R])
    const weight = weights.reshape([O, I])
    const y = ops.groupedLinear(x, weights, groups, bias)
    const wanted = ops.linear(x, weight, bias.reshape([O]))
    expectClose('y', await y.data(), await wanted.data(), 1e-6)
    const { dx, dWeights } = ops.groupedLinearBackward(dy, x, weights, groups)
    const linear = ops.linearBackward(dy, x, weight)
    expectClose('dx', await dx.data(), await linear.dx.data(), 1e-6)
    expectClose('dWeights', await dWeights.data(), await linear.dWeight.data(), 1e-6)
  })

  test('the same bits in every run', async () => {
    const offsets = offsetsTensor([0, 300, 301, 700])
    const x = randomTensor(device, [700, 20], 1).tensor
    const weights = randomTensor(device, [3, 30, 20], 2).tensor
    const dy = randomTensor(device, [700, 30], 3).tensor
    const run = () => ops.groupedLinearBackward(dy, x, weights, offsets)
    const [first, second] = [run(), run()]
    for (const name of ['dx', 'dWeights', 'dBias'] as const)
      expect(await second[name].data()).toEqual(await first[name].data())
  })

  test('the gradients equal finite differences, and are recorded', async () => {
    const [offsets, I, O] = [[0, 2, 2, 5], 4, 3]
    const x = randomTensor(device, [5, I], 1)
    const weights = randomTensor(device, [3, O, I], 2)
    const bias = randomTensor(device, [3, O], 3)
    const dy = randomTensor(device, [5, O], 4)
    for (const t of [x, weights, bias]) t.tensor.requireGrad()
    const groups = offsetsTensor(offsets)
    ops.groupedLinear(x.tensor, weights.tensor, groups, bias.tensor).backward(dy.tensor)
    type Numbers = Float32Array | readonly number[]
    const loss = (xs: ArrayLike<number>, ws: ArrayLike<number>, bs: ArrayLike<number>) =>
      dot(
        dy.data,
        reference.groupedLinear(xs as Numbers, ws as Numbers, offsets, bs as Numbers, I, O),
      )
    const [xs, ws, bs] = [x.data, weights.data, bias.data]
    const gradient = (t: { tensor: { grad?: { data(): Promise<ArrayLike<number>> } } }) =>
      t.tensor.grad!.data()
    expectGradient('dx', await gradient(x), (v) => loss(v, ws, bs), xs)
    expectGradient('dWeights', await gradient(weights), (v) => loss(xs, v, bs), ws)
    expectGradient('dBias', await gradient(bias), (v) => loss(xs, ws, v), bs)
  })

  test('`into` accumulates, but not for groups without rows; only `needs` are made', async () => {
    const weights = randomTensor(device, [2, 3, 4], 2).tensor
    const x = randomTensor(device, [5, 4], 1)
    const dy = randomTensor(device, [5, 3], 3)
    const into = device.tensor(new Float32Array(24).fill(1), [2, 3, 4])
    const offsets = offsetsTensor([0, 0, 5])
    const found = ops.groupedLinearBackward(dy.tensor, x.tensor, weights, offsets, {
      needs: { x: false, bias: false },
      into: { weights: into },
    })
    expect(Object.keys(found)).toEqual(['dWeights'])
    expect(found.dWeights).toBe(into)
    const { dWeights } = reference.groupedLinearBackward(
      dy.data,
      x.data,
      new Float32Array(24),
      [0, 0, 5],
      4,
      3,
    )
    expectClose(
      'dWeights',
      await into.data(),
      dWeights.map((v) => v + 1),
      1e-6,
    )
    expect((await into.data()).slice(0, 12)).toEqual(new Float32Array(12).fill(1))
  })

  test('no rows, an empty inner dimension, and NaN, which stays in its row', async () => {
    const none = ops.groupedLinear(
      device.zeros([0, 4]),
      device.zeros([2, 3, 4]),
      offsetsTensor([0, 0, 0]),
    )
    expect(none.shape).toEqual([0, 3])
    const bias = device.tensor([1, 2, 3, 4], [2, 2])
    const empty = [device.zeros([3, 0]), device.zeros([2, 2, 0])] as const
    const y = ops.groupedLinear(...empty, offsetsTensor([0, 1, 3]), bias)
    expect(await y.data()).toEqual(Float32Array.of(1, 2, 3, 4, 3, 4))
    const x = device.tensor([1, Number.NaN, 1, 1], [4, 1])
    const ones = device.tensor([1, 2], [2, 1, 1])
    const z = await ops.groupedLinear(x, ones, offsetsTensor([0, 2, 4])).data()
    expect(z).toEqual(Float32Array.of(1, Number.NaN, 2, 2))
  })

  test('offsets that do not ascend from 0 to the rows are found before a write', async () => {
    const x = device.zeros([4, 3])
    const weights = device.zeros([2, 5, 3])
    for (const [wrong, message] of [
      [[1, 2, 4], '"offsets"[0] must be 0, got 1'],
      [[0, 5, 4], '"offsets"[2] must be at least 5, got 4'],
      [[0, -1, 4], '"offsets"[1] must be at least 0, got -1'],
      [[0, 2, 3], '"offsets"[2] must be 4, got 3'],
    ] as const) {
      const offsets = offsetsTensor(wrong)
      const y = ops.groupedLinear(x, weights, offsets)
      expect(await errorOf('ERR_VALUE', () => y.data())).toContain(`groupedLinear: ${message}`)
      const into = device.zeros(weights.shape)
      const dy = device.zeros([4, 5])
      const found = ops.groupedLinearBackward(dy, x, weights, offsets, { into: { weights: into } })
      expect(await errorOf('ERR_VALUE', () => found.dx.data())).toContain(message)
      expect(await into.data()).toEqual(new Float32Array(30))
    }
    await device.synchronize().catch(() => {})
  })

  test('shapes and dtypes are checked', async () => {
    const x = device.zeros([4, 3])
    const weights = device.zeros([2, 5, 3])
    const offsets = device.zeros([3], 'int32')
    await errorOf('ERR_SHAPE', () => ops.groupedLinear(x, device.zeros([2, 5, 4]), offsets))
    await errorOf('ERR_SHAPE', () => ops.groupedLinear(x, device.zeros([5, 3]), offsets))
    await errorOf('ERR_SHAPE', () => ops.groupedLinear(x, weights, device.zeros([2], 'int32')))
    await errorOf('ERR_DTYPE', () => ops.groupedLinear(x, weights, device.zeros([3])))
    await errorOf('ERR_DTYPE', () =>
      ops.groupedLinear(x, device.zeros([2, 5, 3], 'bfloat16'), offsets),
    )
    await errorOf('ERR_SHAPE', () => ops.groupedLinear(x, weights, offsets, device.zeros([5])))
    await errorOf('ERR_SHAPE', () =>
      ops.groupedLinear(x, device.zeros([0, 5, 3]), device.zeros([1], 'int32')),
    )
    await errorOf('ERR_SHAPE', () =>
      ops.groupedLinearBackward(device.zeros([4, 4]), x, weights, offsets),
    )
  })
})
