import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/rms-norm.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  test.each([1, 2, 16, 17, 64, 333, 2050, 5000, 17000, 33000])(
    'rows of %i equal the reference, and gradients finite differences',
    async (n) => {
      const x = randomTensor(device, [9, n], n)
      const gain = randomTensor(device, [n], n + 1)
      const dy = randomTensor(device, [9, n], n + 2)
      const eps = 0.01

      const y = ops.rmsNorm(x.tensor, gain.tensor)
      const yWithoutGain = ops.rmsNorm(x.tensor, undefined, { eps: 0.1 })
      const gradients = ops.rmsNormBackward(dy.tensor, x.tensor, gain.tensor, { eps })
      const [dx, dGain] = [await gradients.dx.data(), await gradients.dGain!.data()]

      expectClose('y', await y.data(), reference.rmsNorm(x.data, gain.data, n, 1e-6), 3e-6)
      expectClose(
        'y without gain',
        await yWithoutGain.data(),
        reference.rmsNorm(x.data, undefined, n, 0.1),
        3e-6,
      )
      const wanted = reference.rmsNormBackward(dy.data, x.data, gain.data, n, eps)
      expectClose('dx', dx, wanted.dx, 3e-6)
      expectClose('dGain', dGain, wanted.dGain, 3e-6)
      if (n > 100) return
      const loss = (xs: ArrayLike<number>, gains: ArrayLike<number>) =>
        dot(dy.data, reference.rmsNorm(xs, gains, n, eps))
      expectGradient('dx', dx, (v) => loss(v, gain.data), x.data, 3e-5)
      expectGradient('dGain', dGain, (v) => loss(x.data, v), gain.data, 3e-5)
    },
  )

  test('dGain of many rows has the same bits in every run', async () => {
    const x = randomTensor(device, [5000, 7], 1)
    const dy = randomTensor(device, [5000, 7], 2)
    const gain = device.tensor([1, 1, 1, 1, 1, 1, 1])
    const run = () => ops.rmsNormBackward(dy.tensor, x.tensor, gain).dGain!.data()
    expect(await run()).toEqual(await run())
  })

  test('the gain and the options are checked', async () => {
    const x = device.zeros([2, 7])
    await errorOf('ERR_SHAPE', () => ops.rmsNorm(x, device.zeros([6])))
    const message = await errorOf('ERR_OPTION', () =>
      ops.rmsNorm(x, undefined, { epsilon: 1 } as never),
    )
    expect(message).toContain('eps')
  })
})
