import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/peer.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { integers, randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  /** Tables of N rows: x [T, C], down [N, C], up [N, O], indices and weights [T, L]. */
  const inputs = ({ T, L, C, O }: reference.PeerShape, N: number, seed: number) => {
    const x = randomTensor(device, [T, C], seed)
    const down = randomTensor(device, [N, C], seed + 1)
    const up = randomTensor(device, [N, O], seed + 2)
    const weights = randomTensor(device, [T, L], seed + 3)
    const indices = integers(T * L, -1, N, seed + 4)
    return {
      data: { x: x.data, down: down.data, up: up.data, indices, weights: weights.data },
      x: x.tensor,
      down: down.tensor,
      up: up.tensor,
      indices: device.tensor(indices, [T, L]),
      weights: weights.tensor,
    }
  }

  test.each([
    [1, 1, 1, 1],
    [3, 4, 5, 7],
    [5, 16, 64, 64],
    [20, 33, 100, 31],
  ] as const)('T %i, L %i, %i -> %i equals the reference', async (T, L, C, O) => {
    const s = { T, L, C, O }
    const { data, x, down, up, indices, weights } = inputs(s, 9, T)
    for (const activation of ['gelu', 'relu', 'silu', 'sigmoid'] as const) {
      const { output, u } = ops.peer(x, down, up, indices, weights, { activation })
      const wanted = reference.peer(
        data.x,
        data.down,
        data.up,
        data.indices,
        data.weights,
        s,
        activation,
      )
      expectClose('u', await u.data(), wanted.u, 3e-6)
      expectClose('output', await output.data(), wanted.out, 3e-6)
    }
  })

  test.each(['bfloat16', 'float16'] as const)('%s tables equal the reference', async (dtype) => {
    for (const s of [
      { T: 3, L: 5, C: 9, O: 7 },
      { T: 4, L: 16, C: 64, O: 128 },
    ]) {
      const { data, ...t } = inputs(s, 9, s.T)
      const [down, up] = [t.down.to(dtype), t.up.to(dtype)]
      const rounded = { down: await down.to('float32').data(), up: await up.to('float32').data() }
      const { output, u } = ops.peer(t.x, down, up, t.indices, t.weights)
      const { x, indices, weights } = data
      const wanted = reference.peer(x, rounded.down, rounded.up, indices, weights, s, 'gelu')
      expectClose('u', await u.data(), wanted.u, 3e-6)
      expectClose('output', await output.data(), wanted.out, 3e-6)
      // The gradients are those of float32 tables with the same numbers.
      const dOut = randomTensor(device, [s.T, s.O], 9).tensor
      const saved = { x: t.x, indices: t.indices, weights: t.weights, u }
      const half = ops.peerBackward(dOut, { ...saved, down, up })
      const whole = ops.peerBackward(dOut, {
        ...saved,
        down: down.to('float32'),
        up: up.to('float32'),
      })
      expect(await half.dx.data()).toEqual(await whole.dx.data())
      expect(await half.dWeights.data()).toEqual(await whole.dWeights.data())
    }
  })

  test.each(['gelu', 'silu'] as const)(
    '%s: the gradients equal finite differences',
    async (activation) => {
      const s = { T: 3, L: 4, C: 5, O: 6 }
      const { data, x, down, up, indices, weights } = inputs(s, 6, 3)
      const dOut = randomTensor(device, [3, 6], 9)

      const { u } = ops.peer(x, down, up, indices, weights, { activation })
      const saved = { x, down, up, indices, weights, u }
      const gradients = ops.peerBackward(dOut.tensor, saved, { activation })
      const dx = await gradients.dx.data()
      const dWeights = await gradients.dWeights.data()
      const dDown = await gradients.dDown.toDense().data()
      const dUp = await gradients.dUp.toDense().data()

      const loss = (changed: { [name in 'x' | 'down' | 'up' | 'weights']?: Float64Array }) => {
        const v = { ...data, ...changed }
        const { out } = reference.peer(v.x, v.down, v.up, v.indices, v.weights, s, activation)
        return dot(dOut.data, out)
      }
      expectGradient('dx', dx, (x) => loss({ x }), data.x, 2e-5)
      expectGradient('dDown', dDown, (down) => loss({ down }), data.down, 2e-5)
      expectGradient('dUp', dUp, (up) => loss({ up }), data.up, 2e-5)
      expectGradient('dWeights', dWeights, (weights) => loss({ weights }), data.weights, 2e-5)
      for (const [entry, index] of data.indices.entries())
        if (index < 0) expect(dWeights[entry]).toBe(0)
    },
  )

  test('shapes, options and indices are checked', async () => {
    const { x, down, up, indices, weights } = inputs({ T: 2, L: 3, C: 4, O: 5 }, 6, 1)
    await errorOf('ERR_SHAPE', () => ops.peer(x, up, up, indices, weights))
    await errorOf('ERR_SHAPE', () => ops.peer(x, down, up, indices, device.zeros([2, 4])))
    await errorOf('ERR_VALUE', () =>
      ops.peer(x, down, up, indices, weights, { activation: 'glu' as never }),
    )
    const outside = device.tensor(Int32Array.from([0, 1, 2, 3, 4, 6]), [2, 3])
    const { output } = ops.peer(x, down, up, outside, weights)
    const message = await errorOf('ERR_INDEX_RANGE', () => output.data())
    expect(message).toContain('"indices"[5] is 6')
  })

  test('an output that is refused stays alive', async () => {
    const { x, down, up, indices, weights } = inputs({ T: 2, L: 3, C: 4, O: 5 }, 6, 1)
    const { u } = ops.peer(x, down, up, indices, weights)
    const before = await x.data()
    const saved = { x, down, up, indices, weights, u }
    for (let i = 0; i < 5; i++)
      await errorOf('ERR_VALUE', () =>
        ops.peerBackward(device.zeros([2, 5]), saved, { out: { dx: x } }),
      )
    device.normal([2, 4], { seed: 9 }) // would take the memory of x, if that had been freed
    expect(await x.data()).toEqual(before)
  })
})
