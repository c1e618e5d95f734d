import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/peer.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { integers, randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  const inputs = (s: reference.PeerShape, N: number, seed: number) => {
    const x = randomTensor(device, [s.T, s.C], seed)
    const down = randomTensor(device, [N, s.C], seed + 1)
    const up = randomTensor(device, [N, s.O], seed + 2)
    const weights = randomTensor(device, [s.T, s.L], seed + 3)
    const indices = integers(s.T * s.L, -1, N, seed + 4)
    return { x, down, up, weights, indices, tensor: device.tensor(indices, [s.T, s.L]) }
  }

  test.each([
    [1, 1, 1, 1],
    [3, 4, 5, 7],
    [5, 16, 64, 64],
    [20, 33, 100, 31],
  ] as const)('T %i, L %i, %i -> %i equals the reference', async (T, L, C, O) => {
    const s = { T, L, C, O }
    for (const activation of ['gelu', 'relu', 'silu', 'sigmoid'] as const) {
      const i = inputs(s, 9, T)
      const { output, u } = ops.peer(
        i.x.tensor,
        i.down.tensor,
        i.up.tensor,
        i.tensor,
        i.weights.tensor,
        { activation },
      )
      const wanted = reference.peer(
        i.x.data,
        i.down.data,
        i.up.data,
        i.indices,
        i.weights.data,
        s,
        activation,
      )
      expectClose('u', await u.data(), wanted.u, 3e-6)
      expectClose('output', await output.data(), wanted.out, 3e-6)
    }
  })

  test('every gradient is the slope', async () => {
    const s = { T: 3, L: 4, C: 5, O: 6 }
    for (const activation of ['gelu', 'silu'] as const) {
      const i = inputs(s, 6, 3)
      const dOut = randomTensor(device, [3, 6], 9)
      const { u } = ops.peer(i.x.tensor, i.down.tensor, i.up.tensor, i.tensor, i.weights.tensor, {
        activation,
      })
      const saved = {
        x: i.x.tensor,
        down: i.down.tensor,
        up: i.up.tensor,
        indices: i.tensor,
        weights: i.weights.tensor,
        u,
      }
      const { dx, dWeights, dDown, dUp } = ops.peerBackward(dOut.tensor, saved, { activation })
      const loss = (
        x: ArrayLike<number>,
        down: ArrayLike<number>,
        up: ArrayLike<number>,
        w: ArrayLike<number>,
      ) => dot(dOut.data, reference.peer(x, down, up, i.indices, w, s, activation).out)
      const [x, down, up, w] = [i.x.data, i.down.data, i.up.data, i.weights.data]
      expectGradient('dx', await dx.data(), (v) => loss(v, down, up, w), x, 2e-5)
      expectGradient('dDown', await dDown.toDense().data(), (v) => loss(x, v, up, w), down, 2e-5)
      expectGradient('dUp', await dUp.toDense().data(), (v) => loss(x, down, v, w), up, 2e-5)
      const slopes = await dWeights.data()
      i.indices.forEach((index, at) => {
        if (index < 0) expect(slopes[at]).toBe(0)
      })
      expectGradient('dWeights', slopes, (v) => loss(x, down, up, v), w, 2e-5)
    }
  })

  test('errors', async () => {
    const i = inputs({ T: 2, L: 3, C: 4, O: 5 }, 6, 1)
    await errorOf('ERR_SHAPE', () =>
      ops.peer(i.x.tensor, i.up.tensor, i.up.tensor, i.tensor, i.weights.tensor),
    )
    await errorOf('ERR_SHAPE', () =>
      ops.peer(i.x.tensor, i.down.tensor, i.up.tensor, i.tensor, device.zeros([2, 4])),
    )
    await errorOf('ERR_VALUE', () =>
      ops.peer(i.x.tensor, i.down.tensor, i.up.tensor, i.tensor, i.weights.tensor, {
        activation: 'glu' as never,
      }),
    )
    const bad = device.tensor(Int32Array.from([0, 1, 2, 3, 4, 6]), [2, 3])
    const { output } = ops.peer(i.x.tensor, i.down.tensor, i.up.tensor, bad, i.weights.tensor)
    expect(await errorOf('ERR_INDEX_RANGE', () => output.data())).toMatch(/"indices"\[5\] is 6/)
  })
})
