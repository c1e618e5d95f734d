import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import { halfScores } from '../reference/product-key-scores.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { lookupInputs, lookupShapes } from '../support/lookup.js'
import { randomTensorOf } from '../support/random.js'

onEveryDevice((device) => {
  test.each(lookupShapes)('%s equals the reference', async (_, s) => {
    const { query, keys } = lookupInputs(device, s, 1)
    const scores = ops.productKeyScores(query.tensor, keys.tensor)
    expectClose('scores', await scores.data(), halfScores(query.data, keys.data, s), 2e-6)
  })

  describe.each<DType>(['float16', 'bfloat16'])('%s query and keys', (dtype) => {
    test.each(lookupShapes)('%s equals the reference', async (_, s) => {
      const query = await randomTensorOf(device, [s.T, s.H, 2, s.d], 1, dtype)
      const keys = await randomTensorOf(device, [s.H, 2, s.n, s.d], 2, dtype)
      const scores = ops.productKeyScores(query.tensor, keys.tensor)
      expect(scores.dtype).toBe('float32')
      expectClose('scores', await scores.data(), halfScores(query.data, keys.data, s), 2e-6)
    })

    test('one dtype for both', async () => {
      const query = device.zeros([1, 1, 2, 4], dtype)
      await errorOf('ERR_DTYPE', () => ops.productKeyScores(query, device.zeros([1, 2, 3, 4])))
    })
  })
})
