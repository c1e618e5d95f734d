import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/silu-gate.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

const shapes = [
  [1, 1],
  [3, 5],
  [4, 16],
  [7, 33],
  [2, 1000],
  [3, 9000],
] as const

onEveryDevice((device) => {
  /** y, dz in [-1, 1) and a in [-5, 3), where silu has both its branches. */
  const inputs = (shape: readonly [number, number]) => {
    const a = randomTensor(device, shape, 2).data.map((v) => 4 * v - 1)
    return {
      y: randomTensor(device, shape, 1),
      a: { data: a, tensor: device.tensor(a, shape) },
      dz: randomTensor(device, shape, 3),
    }
  }

  test.each(shapes)('[%i, %i] equals the reference', async (...shape) => {
    const { y, a, dz } = inputs(shape)
    const z = ops.siluGate(y.tensor, a.tensor)
    const { dy, da } = ops.siluGateBackward(dz.tensor, y.tensor, a.tensor)
    const wanted = reference.siluGateBackward(dz.data, y.data, a.data)
    expectClose('z', await z.data(), reference.siluGate(y.data, a.data), 2e-6)
    expectClose('dy', await dy.data(), wanted.dy, 2e-6)
    expectClose('da', await da.data(), wanted.da, 2e-6)
  })

  test('the gradients equal finite differences', async () => {
    const { y, a, dz } = inputs([3, 5])
    const { dy, da } = ops.siluGateBackward(dz.tensor, y.tensor, a.tensor)
    const loss = (ys: ArrayLike<number>, as: ArrayLike<number>) =>
      dot(dz.data, reference.siluGate(ys, as))
    expectGradient('dy', await dy.data(), (v) => loss(v, a.data), y.data)
    expectGradient('da', await da.data(), (v) => loss(y.data, v), a.data)
  })

  test('shapes must be equal', async () => {
    const message = await errorOf('ERR_SHAPE', () =>
      ops.siluGate(device.zeros([2, 3]), device.zeros([3, 2])),
    )
    expect(message).toContain('siluGate')
  })
})
