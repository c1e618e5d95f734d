import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/linear.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor, randomTensorOf } from '../support/random.js'

const sizes = [
  [1, 1, 1],
  [1, 100, 70],
  [2, 3, 5],
  [3, 700, 33],
  [4, 17, 1],
  [5, 1, 40],
  [6, 31, 32],
  [12, 32, 33],
  [13, 64, 31],
  [47, 5, 65],
  [48, 384, 64],
  [50, 385, 96],
  [130, 800, 130],
  [300, 20, 257],
  [24, 48, 330],
  [90, 641, 2],
  [200, 700, 300],
] as const

onEveryDevice((device) => {
  test.each(sizes)('%i x %i -> %i equals the reference', async (R, I, O) => {
    const x = randomTensor(device, [R, I], 1)
    const weight = randomTensor(device, [O, I], 2)
    const bias = randomTensor(device, [O], 3)
    const dy = randomTensor(device, [R, O], 4)

    const y = ops.linear(x.tensor, weight.tensor, bias.tensor)
    const yWithoutBias = ops.linear(x.tensor, weight.tensor)
    const { dx, dWeight, dBias } = ops.linearBackward(dy.tensor, x.tensor, weight.tensor)

    const [xs, ws] = [x.data, weight.data]
    expectClose('y', await y.data(), reference.linear(xs, ws, bias.data, R, I, O), 2e-6)
    expectClose(
      'y without bias',
      await yWithoutBias.data(),
      reference.linear(xs, ws, undefined, R, I, O),
      2e-6,
    )
    const wanted = reference.linearBackward(dy.data, xs, ws, R, I, O)
    expectClose('dx', await dx.data(), wanted.dx, 2e-6)
    expectClose('dWeight', await dWeight.data(), wanted.dWeight, 2e-6)
    expectClose('dBias', await dBias.data(), wanted.dBias, 2e-6)
  })

  describe.each<DType>(['float16', 'bfloat16'])('%s operands', (dtype) => {
    test.each(sizes)('%i x %i -> %i equals the reference on rounded numbers', async (R, I, O) => {
      const x = await randomTensorOf(device, [R, I], 1, dtype)
      const weight = await randomTensorOf(device, [O, I], 2, dtype)
      const bias = randomTensor(device, [O], 3)
      const dy = randomTensor(device, [R, O], 4)

      const y = ops.linear(x.tensor, weight.tensor, bias.tensor)
      const { dx, dWeight, dBias } = ops.linearBackward(dy.tensor, x.tensor, weight.tensor)

      const [xs, ws] = [x.data, weight.data]
      expect(y.dtype).toBe('float32')
      expectClose('y', await y.data(), reference.linear(xs, ws, bias.data, R, I, O), 2e-6)
      const wanted = reference.linearBackward(dy.data, xs, ws, R, I, O)
      expectClose('dx', await dx.data(), wanted.dx, 2e-6)
      expectClose('dWeight', await dWeight.data(), wanted.dWeight, 2e-6)
      expectClose('dBias', await dBias.data(), wanted.dBias, 2e-6)
    })
  })

  test.runIf(device.kind === 'cpu')('a weight that is packed in several panels', async () => {
    const [R, I, O] = [25, 1500, 2100]
    const x = randomTensor(device, [R, I], 1)
    const weight = randomTensor(device, [O, I], 2)
    const y = ops.linear(x.tensor, weight.tensor)
    const wanted = reference.linear(x.data, weight.data, undefined, R, I, O)
    expectClose('y', await y.data(), wanted, 2e-6)
  })

  test('the same bits in every run, with the inner dimension split', async () => {
    const [R, I, O] = [3000, 20, 30]
    const x = randomTensor(device, [R, I], 1)
    const weight = randomTensor(device, [O, I], 2)
    const dy = randomTensor(device, [R, O], 3)

    const run = () => ops.linearBackward(dy.tensor, x.tensor, weight.tensor)
    const [first, second] = [run(), run()]

    const wanted = reference.linearBackward(dy.data, x.data, weight.data, R, I, O)
    expectClose('dWeight', await first.dWeight.data(), wanted.dWeight, 1e-5)
    expectClose('dBias', await first.dBias.data(), wanted.dBias, 1e-5)
    expect(await second.dWeight.data()).toEqual(await first.dWeight.data())
    expect(await second.dBias.data()).toEqual(await first.dBias.data())
  })

  test('the gradients equal finite differences', async () => {
    const [R, I, O] = [3, 4, 5]
    const x = randomTensor(device, [R, I], 1)
    const weight = randomTensor(device, [O, I], 2)
    const dy = randomTensor(device, [R, O], 4)
    const { dx, dWeight } = ops.linearBackward(dy.tensor, x.tensor, weight.tensor)
    const loss = (xs: ArrayLike<number>, ws: ArrayLike<number>) =>
      dot(dy.data, reference.linear(xs, ws, undefined, R, I, O))
    expectGradient('dx', await dx.data(), (v) => loss(v, weight.data), x.data)
    expectGradient('dWeight', await dWeight.data(), (v) => loss(x.data, v), weight.data)
  })

  test('`into` accumulates, and only the gradients in `needs` are computed', async () => {
    const [R, I, O] = [5, 6, 7]
    const x = randomTensor(device, [R, I], 1)
    const weight = randomTensor(device, [O, I], 2)
    const dy = randomTensor(device, [R, O], 3)
    const into = device.tensor(new Float32Array(O * I).fill(1), [O, I])

    const gradients = ops.linearBackward(dy.tensor, x.tensor, weight.tensor, {
      needs: { x: false, bias: false },
      into: { weight: into },
    })

    expect(Object.keys(gradients)).toEqual(['dWeight'])
    expect(gradients.dWeight).toBe(into)
    const { dWeight } = reference.linearBackward(dy.data, x.data, weight.data, R, I, O)
    const sums = dWeight.map((v) => v + 1)
    expectClose('dWeight', await into.data(), sums, 1e-6)
  })

  test('an empty inner dimension gives the bias; no rows give no rows', async () => {
    const bias = device.tensor([1, 2, 3])
    const y = ops.linear(device.zeros([2, 0]), device.zeros([3, 0]), bias)
    expect(await y.data()).toEqual(Float32Array.from([1, 2, 3, 1, 2, 3]))
    const empty = ops.linear(device.zeros([0, 4]), device.zeros([3, 4]))
    expect((await empty.data()).length).toBe(0)
  })

  test('NaN stays in its row', async () => {
    const [R, I, O] = [20, 9, 33]
    const x = randomTensor(device, [R, I], 1)
    x.data[5 * I] = Number.NaN
    const weight = randomTensor(device, [O, I], 2).tensor
    const y = await ops.linear(device.tensor(x.data, [R, I]), weight).data()
    for (let r = 0; r < R; r++) {
      const row = y.slice(r * O, (r + 1) * O)
      expect(row.every(r === 5 ? Number.isNaN : Number.isFinite)).toBe(true)
    }
  })

  test('shapes and dtypes are checked', async () => {
    const x = device.zeros([2, 3])
    const weight = device.zeros([4, 3])
    const half = device.zeros([2, 3], 'bfloat16')
    await errorOf('ERR_SHAPE', () => ops.linear(x, device.zeros([4, 5])))
    await errorOf('ERR_SHAPE', () => ops.linear(x, weight, device.zeros([3])))
    await errorOf('ERR_SHAPE', () => ops.linear(device.zeros([3]), weight))
    await errorOf('ERR_DTYPE', () => ops.linear(half, weight))
    await errorOf('ERR_DTYPE', () => ops.linear(half, device.zeros([4, 3], 'float16')))
    await errorOf('ERR_DTYPE', () =>
      ops.linear(device.zeros([2, 3], 'int8'), device.zeros([4, 3], 'int8')),
    )
    await errorOf('ERR_SHAPE', () => ops.linearBackward(device.zeros([2, 5]), x, weight))
  })
})
