import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/target-weights.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { integers } from '../support/random.js'

onEveryDevice((device) => {
  test.each([1, 2, 31, 256, 257, 5000])('%i targets equal the reference', async (T) => {
    const targets = integers(T, 0, 9, T).map((v, i) => (i % 3 === 1 ? -1 : i % 7 === 2 ? -100 : v))
    for (const ignoreIndex of [-100, 4]) {
      const input = targets.map((v) => (v === -100 ? ignoreIndex : v))
      const got = ops.targetWeights(device.tensor(input), { ignoreIndex })
      const wanted = reference.targetWeights(input, ignoreIndex)
      expect(Array.from(await got.kept.data())).toEqual(wanted.kept)
      expectClose('weights', await got.weights.data(), wanted.weights, 1e-7)
    }
  })

  test('the weights add up to one, and the result may take the place of the targets', async () => {
    const targets = device.tensor(Int32Array.of(3, -100, 2, -1, 7))
    const { kept, weights } = ops.targetWeights(targets, { out: { kept: targets } })
    expect(kept).toBe(targets)
    expect(await targets.data()).toEqual(Int32Array.of(3, -1, 2, -1, 7))
    expect((await weights.data()).reduce((a, b) => a + b)).toBeCloseTo(1, 6)
  })

  test('no targets have no weights; targets that are all ignored are an error', async () => {
    const empty = ops.targetWeights(device.zeros([0], 'int32'))
    expect(await empty.weights.data()).toEqual(new Float32Array(0))
    const { kept, weights } = ops.targetWeights(device.tensor(Int32Array.of(-1, -100)))
    expect(await errorOf('ERR_VALUE', () => weights.data())).toContain('at least one that counts')
    await errorOf('ERR_VALUE', () => kept.data())
    const next = ops.targetWeights(device.tensor(Int32Array.of(-1, 5)))
    expect(await next.weights.data()).toEqual(Float32Array.of(0, 1))
  })

  test('shapes and dtypes are checked', async () => {
    await errorOf('ERR_SHAPE', () => ops.targetWeights(device.zeros([2, 2], 'int32')))
    await errorOf('ERR_DTYPE', () => ops.targetWeights(device.zeros([2])))
    await errorOf('ERR_VALUE', () =>
      ops.targetWeights(device.zeros([2], 'int32'), { ignoreIndex: 2 ** 31 }),
    )
  })
})
