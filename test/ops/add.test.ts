import { expect, test } from 'vitest'
import { openDevice, ops } from '../../lib/index.js'
import { add } from '../reference/add.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  test('alpha * x + beta * y', async () => {
    const x = randomTensor(device, [1001], 1)
    const y = randomTensor(device, [1001], 2)
    const sum = ops.add(x.tensor, y.tensor, { alpha: 2, beta: -0.5 })
    expectClose('sum', await sum.data(), add(x.data, y.data, 2, -0.5), 1e-6)
  })

  test('in place', async () => {
    const x = randomTensor(device, [1001], 1)
    const y = randomTensor(device, [1001], 2)
    const sum = ops.add(x.tensor, y.tensor, { out: x.tensor })
    expect(sum).toBe(x.tensor)
    expectClose('x', await x.tensor.data(), add(x.data, y.data), 1e-6)
  })

  test('shapes and devices are checked', async () => {
    const x = device.zeros([1001])
    await errorOf('ERR_SHAPE', () => ops.add(x, device.zeros([1000])))
    await errorOf('ERR_DEVICE_MISMATCH', () =>
      ops.add(x, openDevice('cpu', { threads: 3 }).zeros([1001])),
    )
  })
})
