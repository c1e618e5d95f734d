// What records, and what a backward of recorded operations gives.

import { describe, expect, test } from 'vitest'
import { ops, type Tensor } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  const random = (shape: number[], seed: number) => randomTensor(device, shape, seed).tensor
  const numbers = async (t: Tensor | undefined) => [...((await t?.data()) ?? [])]

  describe('a recorded graph', () => {
    test('equals the explicit backwards bit for bit, and sums what is used twice', async () => {
      const x = random([5, 8], 1).requireGrad()
      const w = random([8, 8], 2).requireGrad()
      const b = random([8], 3).requireGrad()
      const h = ops.linear(x, w, b)
      const z = ops.siluGate(h, x)
      const y = ops.add(z, h)
      const dy = random([5, 8], 4)
      const hValues = device.tensor(await h.data(), h.shape)
      y.backward(dy)

      const { dy: dh1, da } = ops.siluGateBackward(dy, hValues, x)
      const dh = ops.add(dy, dh1)
      const { dx, dWeight, dBias } = ops.linearBackward(dh, x, w)
      expect(await numbers(x.grad)).toEqual(await numbers(ops.add(da, dx)))
      expect(await numbers(w.grad)).toEqual(await numbers(dWeight))
      expect(await numbers(b.grad)).toEqual(await numbers(dBias))
      expect([h.disposed, z.disposed, y.disposed, x.disposed]).toEqual([true, true, false, false])
    })
  })
})
