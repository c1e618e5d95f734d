import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/layer-norm.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  test.each([1, 2, 16, 17, 64, 333, 2050, 5000, 17000, 33000])(
    'rows of %i equal the reference, and gradients finite differences',
    async (n) => {
      const x = randomTensor(device, [5, n], n)
      const weight = randomTensor(device, [n], n + 1)
      const bias = randomTensor(device, [n], n + 2)
      const dy = randomTensor(device, [5, n], n + 3)
      const eps = 0.01
      const y = ops.layerNorm(x.tensor, weight.tensor, bias.tensor, { eps })
      const gradients = ops.layerNormBackward(dy.tensor, x.tensor, weight.tensor, { eps })
      const dx = await gradients.dx!.data()
      const dWeight = await gradients.dWeight!.data()
      const dBias = await gradients.dBias!.data()

      const of = (xs: ArrayLike<number>, w: ArrayLike<number>, b: ArrayLike<number>) =>
        reference.layerNorm(xs, w, b, n, eps)
      expectClose('y', await y.data(), of(x.data, weight.data, bias.data), 4e-6)
      const wanted = reference.layerNormBackward(dy.data, x.data, weight.data, n, eps)
      expectClose('dx', dx, wanted.dx, 4e-6, 1)
      expectClose('dWeight', dWeight, wanted.dWeight, 4e-6, 1)
      expectClose('dBias', dBias, wanted.dBias, 4e-6)
      if (n > 100) return
      const loss = (...args: Parameters<typeof of>) => dot(dy.data, of(...args))
      const close = 1e-4
      expectGradient('dx', dx, (v) => loss(v, weight.data, bias.data), x.data, close)
      expectGradient('dWeight', dWeight, (v) => loss(x.data, v, bias.data), weight.data, close)
      expectGradient('dBias', dBias, (v) => loss(x.data, weight.data, v), bias.data, close)
    },
  )

  test('without weight, bias, or some of the gradients', async () => {
    const [x, weight, dy] = [1, 2, 3].map((seed) => randomTensor(device, [3, 20], seed))
    const row = weight!.tensor.rows(0, 1).reshape([20])
    const plain = await ops.layerNorm(x!.tensor).data()
    expectClose('y', plain, reference.layerNorm(x!.data, undefined, undefined, 20, 1e-5), 3e-6)
    const biased = await ops.layerNorm(x!.tensor, undefined, row).data()
    expectClose(
      'y + bias',
      biased,
      plain.map((v, i) => v + weight!.data[i % 20]!),
      3e-6,
    )

    const bare = ops.layerNormBackward(dy!.tensor, x!.tensor)
    expect(Object.keys(bare)).toEqual(['dx', 'dBias'])
    const wanted = reference.layerNormBackward(dy!.data, x!.data, undefined, 20, 1e-5)
    expectClose('dx', await bare.dx!.data(), wanted.dx, 4e-6)
    const whole = ops.layerNormBackward(dy!.tensor, x!.tensor, row)
    for (const [need, name] of [
      ['x', 'dx'],
      ['weight', 'dWeight'],
      ['bias', 'dBias'],
    ] as const) {
      const needs = { x: false, weight: false, bias: false, [need]: true }
      const one = ops.layerNormBackward(dy!.tensor, x!.tensor, row, { needs })
      expect(Object.keys(one)).toEqual([name])
      expect(await one[name]!.data()).toEqual(await whole[name]!.data())
    }
  })

  test('gradients are added to those given; many rows give the same bits again', async () => {
    const [x, dy] = [1, 2].map((seed) => randomTensor(device, [3000, 7], seed).tensor)
    const weight = device.tensor([1, 2, 3, 4, 5, 6, 7])
    const run = async () => {
      const { dWeight, dBias } = ops.layerNormBackward(dy!, x!, weight)
      return [await dWeight!.data(), await dBias!.data()]
    }
    const [dWeight, dBias] = await run()
    expect(await run()).toEqual([dWeight, dBias])
    const into = {
      weight: device.tensor(Array(7).fill(100)),
      bias: device.tensor(Array(7).fill(9)),
    }
    ops.layerNormBackward(dy!, x!, weight, { into })
    expectClose(
      'into.weight',
      await into.weight.data(),
      dWeight!.map((v) => v + 100),
      1e-6,
    )
    expectClose(
      'into.bias',
      await into.bias.data(),
      dBias!.map((v) => v + 9),
      1e-6,
    )
  })

  test('a large mean and scale leave the result as it is', async () => {
    const x = randomTensor(device, [4, 100], 5)
    const y = await ops.layerNorm(x.tensor, undefined, undefined, { eps: 0 }).data()
    const exact = x.data.map((v) => Math.round(v * 1024) / 8 + 4096)
    const moved = await ops
      .layerNorm(device.tensor(exact, [4, 100]), undefined, undefined, { eps: 0 })
      .data()
    expectClose('y', moved, reference.layerNorm(exact, undefined, undefined, 100, 0), 1e-5)
    expectClose('y', moved, y, 3e-3)
  })

  test('a constant row, NaN and infinities', async () => {
    const x = device.tensor([3, 3, 3, Number.NaN, 1, 2, Infinity, 0, 1, -1, 0, 1], [4, 3])
    const y = await ops.layerNorm(x, undefined, device.tensor([1, 2, 3])).data()
    expect(y.slice(0, 3)).toEqual(Float32Array.of(1, 2, 3))
    expect([...y.slice(3, 9)].every(Number.isNaN)).toBe(true)
    expect([...y.slice(9)].every(Number.isFinite)).toBe(true)
  })

  test('what is wrong is named', async () => {
    const x = device.zeros([2, 7])
    await errorOf('ERR_SHAPE', () => ops.layerNorm(x, device.zeros([6])))
    expect(
      await errorOf('ERR_SHAPE', () => ops.layerNorm(x, undefined, device.zeros([6]))),
    ).toContain('layerNorm: "bias"')
    await errorOf('ERR_DTYPE', () => ops.layerNorm(device.zeros([2, 7], 'int32')))
    await errorOf('ERR_SHAPE', () => ops.layerNorm(device.zeros([])))
    await errorOf('ERR_SHAPE', () => ops.layerNormBackward(device.zeros([2, 6]), x))
    await errorOf('ERR_VALUE', () => ops.layerNorm(x, undefined, undefined, { eps: -1 }))
    await errorOf('ERR_OPTION', () =>
      ops.layerNormBackward(x, x, undefined, { needs: { gain: true } } as never),
    )
  })
})
