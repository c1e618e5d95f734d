import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/cross-entropy.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { integers, randomTensor } from '../support/random.js'
import { extremeRows, stack } from '../support/rows.js'

onEveryDevice((device) => {
  test.each([1, 2, 16, 17, 242, 1000, 3001, 9000, 33000])(
    '%i classes equal the reference, and the gradient finite differences',
    async (C) => {
      const logits = randomTensor(device, [6, C], C)
      const scaled = logits.data.map((v) => v * 10)
      const targets = integers(6, 0, C, C)
      targets[2] = -1
      const dLoss = randomTensor(device, [6], 2)
      const tensor = device.tensor(targets)

      const loss = await ops.crossEntropy(device.tensor(scaled, [6, C]), tensor).data()
      const dLogits = await ops.crossEntropyBackward(dLoss.tensor, logits.tensor, tensor).data()

      const scale = Math.max(1, magnitude(scaled))
      expectClose('loss', loss, reference.crossEntropy(scaled, targets, C), 3e-6, scale)
      const wanted = reference.crossEntropyBackward(dLoss.data, logits.data, targets, C)
      expectClose('dLogits', dLogits, wanted, 2e-6)
      expect(dLogits.slice(2 * C, 3 * C).every((v) => v === 0)).toBe(true)
      if (C > 100) return
      const total = (v: ArrayLike<number>) => dot(dLoss.data, reference.crossEntropy(v, targets, C))
      expectGradient('dLogits', dLogits, total, logits.data, 2e-5)
    },
  )

  test.each([9, 900, 2000, 12000, 40000])(
    '%i classes of which one or two have finite logits, or none',
    async (C) => {
      const logits = stack(Object.values(extremeRows(C)))
      const targets = Int32Array.of(C - 3, C - 1, 0, 0, 0, -1)
      const loss = await ops
        .crossEntropy(device.tensor(logits, [6, C]), device.tensor(targets))
        .data()
      expect(loss[0]).toBeCloseTo(Math.log(2), 6)
      expect(Array.from(loss.slice(1))).toEqual([0, Number.NaN, Number.NaN, Number.NaN, 0])
    },
  )

  test('ignored tokens have no loss and no gradient, whatever their logits', async () => {
    const ignored = device.tensor(Int32Array.from([-1, -1]))
    const loss = ops.crossEntropy(device.zeros([2, 0]), ignored)
    expect(Array.from(await loss.data())).toEqual([0, 0])
    const logits = device.tensor(new Float32Array(2000).fill(Number.NaN), [2, 1000])
    const dLogits = ops.crossEntropyBackward(device.tensor([1, 1]), logits, ignored)
    expect((await dLogits.data()).every((v) => v === 0)).toBe(true)
  })

  test('a target out of range is found before anything is written', async () => {
    const logits = randomTensor(device, [3, 4], 1).tensor
    for (const bad of [4, -2]) {
      const targets = device.tensor(Int32Array.from([0, bad, 1]))
      const forward = () => ops.crossEntropy(logits, targets).data()
      const backward = () => ops.crossEntropyBackward(device.zeros([3]), logits, targets).data()
      const message = await errorOf('ERR_INDEX_RANGE', forward)
      expect(message).toContain(`"targets"[1] is ${bad}`)
      expect(message).toContain('[0, 4)')
      await errorOf('ERR_INDEX_RANGE', backward)
    }
  })

  test('shapes and dtypes are checked', async () => {
    const logits = device.zeros([3, 4])
    await errorOf('ERR_SHAPE', () => ops.crossEntropy(logits, device.zeros([4], 'int32')))
    await errorOf('ERR_DTYPE', () => ops.crossEntropy(logits, device.zeros([3])))
  })
})
