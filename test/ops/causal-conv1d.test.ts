import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/causal-conv1d.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  const random = ({ B, T, C, width }: reference.Conv, seed: number) => ({
    x: randomTensor(device, [B, T, C], seed),
    weight: randomTensor(device, [C, width], seed + 1),
    bias: randomTensor(device, [C], seed + 2),
    dy: randomTensor(device, [B, T, C], seed + 3),
  })

  // Terms of a magnitude of 1, which may cancel.
  const expectSum = (label: string, got: ArrayLike<number>, wanted: ArrayLike<number>) =>
    expectClose(label, got, wanted, 2e-6, Math.max(1, magnitude(wanted)))

  test('equal to the reference, gradients to finite differences', () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          B: fc.integer({ min: 1, max: 3 }),
          T: fc.integer({ min: 1, max: 20 }),
          C: fc.integer({ min: 1, max: 40 }),
          width: fc.integer({ min: 1, max: 6 }),
          dilation: fc.integer({ min: 1, max: 7 }),
        }),
        fc.nat(1000),
        async (shape, seed) => {
          const { x, weight, bias, dy } = random(shape, seed)
          const { dilation } = shape
          const y = ops.causalConv1d(x.tensor, weight.tensor, bias.tensor, { dilation })
          const gradients = ops.causalConv1dBackward(dy.tensor, x.tensor, weight.tensor, {
            dilation,
          })
          const of = (xs: ArrayLike<number>, w: ArrayLike<number>, b: ArrayLike<number>) =>
            reference.causalConv1d(xs, w, b, shape)
          expectClose('y', await y.data(), of(x.data, weight.data, bias.data), 1e-6)
          const wanted = reference.causalConv1dBackward(dy.data, x.data, weight.data, shape)
          const [dx, dWeight, dBias] = await Promise.all(
            [gradients.dx!, gradients.dWeight!, gradients.dBias!].map((t) => t.data()),
          )
          expectClose('dx', dx!, wanted.dx, 1e-6)
          expectSum('dWeight', dWeight!, wanted.dWeight)
          expectSum('dBias', dBias!, wanted.dBias)
          if (x.data.length > 200) return
          const loss = (...args: Parameters<typeof of>) => dot(dy.data, of(...args))
          expectGradient('dx', dx!, (v) => loss(v, weight.data, bias.data), x.data)
          expectGradient('dWeight', dWeight!, (v) => loss(x.data, v, bias.data), weight.data)
          expectGradient('dBias', dBias!, (v) => loss(x.data, weight.data, v), bias.data)
        },
      ),
      { numRuns: device.kind === 'cpu' ? 40 : 12 },
    ))

  test.each([
    [1, 700, 3, 4, 1],
    [2, 3, 70, 40, 1],
    [3, 90, 33, 3, 16],
    [1, 4, 2, 3, 2 ** 40],
  ])('%i x %i tokens of %i channels, width %i, dilation %i', async (B, T, C, width, dilation) => {
    const shape = { B, T, C, width, dilation }
    const { x, weight, dy } = random(shape, T)
    const y = ops.causalConv1d(x.tensor, weight.tensor, undefined, { dilation })
    expectClose(
      'y',
      await y.data(),
      reference.causalConv1d(x.data, weight.data, undefined, shape),
      2e-6,
    )
    const options = { dilation }
    const { dx, dWeight, dBias } = ops.causalConv1dBackward(
      dy.tensor,
      x.tensor,
      weight.tensor,
      options,
    )
    const wanted = reference.causalConv1dBackward(dy.data, x.data, weight.data, shape)
    expectClose('dx', await dx!.data(), wanted.dx, 2e-6)
    expectClose('dWeight', await dWeight!.data(), wanted.dWeight, 3e-6)
    expectClose('dBias', await dBias!.data(), wanted.dBias, 3e-6)
  })

  test('no token changes an earlier one, not even NaN', async () => {
    const { x, weight } = random({ B: 2, T: 9, C: 5, width: 3, dilation: 2 }, 3)
    const y = await ops.causalConv1d(x.tensor, weight.tensor, undefined, { dilation: 2 }).data()
    const changed = x.data.slice()
    changed.fill(Number.NaN, 6 * 5, 7 * 5)
    const other = await ops
      .causalConv1d(device.tensor(changed, [2, 9, 5]), weight.tensor, undefined, { dilation: 2 })
      .data()
    for (const [i, v] of other.entries()) {
      const token = Math.floor(i / 5)
      if (token === 6 || token === 8) expect(v).toBeNaN()
      else expect(v).toBe(y[i])
    }
  })

  test('some of the gradients, and added to those given', async () => {
    const { x, weight, dy } = random({ B: 1, T: 6, C: 4, width: 3, dilation: 1 }, 5)
    const whole = ops.causalConv1dBackward(dy.tensor, x.tensor, weight.tensor)
    for (const [need, name] of [
      ['x', 'dx'],
      ['weight', 'dWeight'],
      ['bias', 'dBias'],
    ] as const) {
      const needs = { x: false, weight: false, bias: false, [need]: true }
      const one = ops.causalConv1dBackward(dy.tensor, x.tensor, weight.tensor, { needs })
      expect(Object.keys(one)).toEqual([name])
      expect(await one[name]!.data()).toEqual(await whole[name]!.data())
    }
    const into = { weight: device.tensor(Array(12).fill(8), [4, 3]), bias: device.zeros([4]) }
    ops.causalConv1dBackward(dy.tensor, x.tensor, weight.tensor, { into })
    const dWeight = await whole.dWeight!.data()
    expectClose(
      'into',
      await into.weight.data(),
      dWeight.map((v) => v + 8),
      1e-6,
    )
    expect(await into.bias.data()).toEqual(await whole.dBias!.data())
  })

  test('nothing to convolve', async () => {
    for (const [B, T, C] of [
      [0, 3, 2],
      [2, 0, 2],
      [2, 3, 0],
    ] as const) {
      const [x, weight] = [device.zeros([B, T, C]), device.zeros([C, 4])]
      expect(ops.causalConv1d(x, weight).shape).toEqual([B, T, C])
      const { dWeight } = ops.causalConv1dBackward(x, x, weight)
      expect(await dWeight!.data()).toEqual(new Float32Array(C * 4))
    }
  })

  test('what is wrong is named', async () => {
    const [x, weight] = [device.zeros([2, 3, 4]), device.zeros([4, 2])]
    await errorOf('ERR_SHAPE', () => ops.causalConv1d(device.zeros([3, 4]), weight))
    await errorOf('ERR_SHAPE', () => ops.causalConv1d(x, device.zeros([3, 2])))
    await errorOf('ERR_SHAPE', () => ops.causalConv1d(x, device.zeros([4, 0])))
    await errorOf('ERR_SHAPE', () => ops.causalConv1d(x, weight, device.zeros([3])))
    await errorOf('ERR_DTYPE', () => ops.causalConv1d(device.zeros([2, 3, 4], 'int32'), weight))
    await errorOf('ERR_VALUE', () => ops.causalConv1d(x, weight, undefined, { dilation: 0 }))
    const dilation = Number.MAX_SAFE_INTEGER
    await errorOf('ERR_VALUE', () => ops.causalConv1d(x, weight, undefined, { dilation }))
    await errorOf('ERR_SHAPE', () => ops.causalConv1dBackward(device.zeros([2, 3, 3]), x, weight))
    await errorOf('ERR_OPTION', () =>
      ops.causalConv1d(x, weight, undefined, { dilate: 1 } as never),
    )
  })
})
