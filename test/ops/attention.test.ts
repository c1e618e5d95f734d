import { describe, expect, test } from 'vitest'
import { ops, type Tensor } from '../../lib/index.js'
import { attention, type Shape } from '../reference/attention.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot } from '../support/finite-differences.js'

const shapes: Shape[] = [
  { B: 1, T: 1, H: 1, d: 1 },
  { B: 2, T: 7, H: 3, d: 8 },
  { B: 1, T: 33, H: 2, d: 19 },
  { B: 1, T: 5, H: 1, d: 256 },
  { B: 0, T: 4, H: 2, d: 4 },
]

onEveryDevice((device) => {
  const inputs = (n: Shape) =>
    [1, 2, 3].map((seed) => device.normal([n.B, n.T, n.H, n.d], { seed })) as [
      Tensor,
      Tensor,
      Tensor,
    ]

  describe.each(shapes)('batch $B, time $T, heads $H, width $d', (n) => {
    test.each([true, false])('equals the float64 reference, causal: %s', async (causal) => {
      const [q, k, v] = inputs(n)
      const { y, lse } = ops.attention(q, k, v, { causal })
      const wanted = attention(
        await q.data(),
        await k.data(),
        await v.data(),
        n,
        1 / Math.sqrt(n.d),
        causal,
      )
      expectClose('y', await y.data(), wanted.y)
      expectClose('lse', await lse.data(), wanted.lse)
    })
  })

  test.each([true, false])(
    'gradients are the slopes along random directions, causal: %s',
    async (causal) => {
      const n = { B: 2, T: 6, H: 2, d: 5 }
      const [q, k, v] = inputs(n)
      const dy = device.normal([n.B, n.T, n.H, n.d], { seed: 4 })
      const { y, lse } = ops.attention(q, k, v, { causal, scale: 0.7 })
      const grads = ops.attentionBackward(dy, { q, k, v, y, lse }, { causal, scale: 0.7 })
      const values = await Promise.all(
        [q, k, v].map(async (t) => Float64Array.from(await t.data())),
      )
      const slope = await dy.data()
      const loss = (x: Float64Array[]) =>
        dot(slope, attention(x[0]!, x[1]!, x[2]!, n, 0.7, causal).y)
      for (const [i, name] of (['dq', 'dk', 'dv'] as const).entries()) {
        const direction = await device.normal([values[i]!.length], { seed: 9 + i }).data()
        const moved = (step: number) =>
          values.map((x, j) => (j === i ? x.map((value, e) => value + step * direction[e]!) : x))
        const wanted = (loss(moved(1e-4)) - loss(moved(-1e-4))) / 2e-4
        expect(Math.abs(dot(await grads[name].data(), direction) - wanted), name).toBeLessThan(
          1e-4 * (1 + Math.abs(wanted)),
        )
      }
    },
  )

  test('causal attention does not see what comes later, bit for bit', async () => {
    const n = { B: 1, T: 9, H: 2, d: 8 }
    const [q, k, v] = inputs(n)
    const before = await ops.attention(q, k, v).y.data()
    const late = await v.data()
    late.fill(99, 8 * 16)
    const after = await ops.attention(q, k, device.tensor(late, v.shape)).y.data()
    expect(after.subarray(0, 8 * 16)).toEqual(before.subarray(0, 8 * 16))
    expect(after.subarray(8 * 16)).not.toEqual(before.subarray(8 * 16))
  })

  test('great scores do not overflow, and NaN is seen', async () => {
    const n = { B: 1, T: 3, H: 1, d: 2 }
    const big = device.tensor([1e18, 0, 0, 1e18, -1e18, 1], [1, 3, 1, 2])
    const [, , v] = inputs(n)
    const { y } = ops.attention(big, big, v, { causal: false })
    expect((await y.data()).every(Number.isFinite)).toBe(true)
    const broken = device.tensor([1, 2, Number.NaN, 0, 1, 1], [1, 3, 1, 2])
    const seen = await ops.attention(broken, big, v).y.data()
    expect(seen[0]).not.toBeNaN()
    expect(seen[2]).toBeNaN()
  })

  test('bad input', async () => {
    const [q, k, v] = inputs({ B: 1, T: 2, H: 1, d: 4 })
    await errorOf('ERR_SHAPE', () => ops.attention(q, k, device.zeros([1, 3, 1, 4])))
    await errorOf('ERR_SHAPE', () => ops.attention(device.zeros([2, 4]), k, v))
    expect(
      await errorOf('ERR_SHAPE', () => ops.attention(device.zeros([1, 2, 1, 257]), k, v)),
    ).toMatch(/from 1 to 256/)
    await errorOf('ERR_DTYPE', () => ops.attention(q, k.to('float16'), v))
    await errorOf('ERR_OPTION', () => ops.attention(q, k, v, { casual: false } as never))
    const { y, lse } = ops.attention(q, k, v)
    await errorOf('ERR_SHAPE', () => ops.attentionBackward(device.zeros([1]), { q, k, v, y, lse }))
  })
})
