import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/sigmoid-gate.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  const inputs = (R: number, V: number) => ({
    y: randomTensor(device, [R, V], 1),
    g: randomTensor(device, [R, 1], 4),
    dOut: randomTensor(device, [R, V], 3),
  })

  test.each([
    [1, 1],
    [3, 5],
    [4, 16],
    [7, 33],
    [2, 1000],
    [3, 9000],
  ])('[%i, %i] equals the reference', async (R, V) => {
    const { y, g, dOut } = inputs(R, V)
    const out = ops.sigmoidGate(y.tensor, g.tensor)
    const { dy, dg } = ops.sigmoidGateBackward(dOut.tensor, y.tensor, g.tensor)
    const wanted = reference.sigmoidGateBackward(dOut.data, y.data, g.data, V)
    expectClose('out', await out.data(), reference.sigmoidGate(y.data, g.data, V), 2e-6)
    expectClose('dy', await dy.data(), wanted.dy, 2e-6)
    expectClose('dg', await dg.data(), wanted.dg, 2e-6, V / 8)
  })

  test.each([
    [1, 1],
    [3, 5],
    [4, 16],
    [7, 33],
  ])('[%i, %i]: the gradients equal finite differences', async (R, V) => {
    const { y, g, dOut } = inputs(R, V)
    const { dy, dg } = ops.sigmoidGateBackward(dOut.tensor, y.tensor, g.tensor)
    const loss = (ys: ArrayLike<number>, gs: ArrayLike<number>) =>
      dot(dOut.data, reference.sigmoidGate(ys, gs, V))
    expectGradient('dy', await dy.data(), (v) => loss(v, g.data), y.data)
    expectGradient('dg', await dg.data(), (v) => loss(y.data, v), g.data)
  })

  test('the gate must have one column', async () => {
    const message = await errorOf('ERR_SHAPE', () =>
      ops.sigmoidGate(device.zeros([2, 3]), device.zeros([2, 3])),
    )
    expect(message).toContain('sigmoidGate')
  })
})
