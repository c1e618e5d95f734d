import { describe, expect, test } from 'vitest'
import { ops, type Tensor } from '../../lib/index.js'
import { attention, type Shape } from '../reference/attention.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot } from '../support/finite-differences.js'
import { rowsOf } from '../support/rows.js'

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

  describe.each(shapes)('B $B T $T H $H d $d', (n) => {
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
    'gradients equal finite differences along random directions, causal: %s',
    async (causal) => {
      const n = { B: 2, T: 6, H: 2, d: 5 }
      const options = { causal, scale: 0.7 }
      const [q, k, v] = inputs(n)
      const dy = device.normal([n.B, n.T, n.H, n.d], { seed: 4 })

      const { y, lse } = ops.attention(q, k, v, options)
      const gradients = ops.attentionBackward(dy, { q, k, v, y, lse }, options)

      const dyData = await dy.data()
      const data = { q: await q.data(), k: await k.data(), v: await v.data() }
      const loss = (changed: { [name in keyof typeof data]?: Float64Array }) => {
        const x = { ...data, ...changed }
        return dot(dyData, attention(x.q, x.k, x.v, n, options.scale, causal).y)
      }
      for (const [i, name] of (['q', 'k', 'v'] as const).entries()) {
        const direction = await device.normal([data[name].length], { seed: 9 + i }).data()
        const moved = (step: number) => ({
          [name]: Float64Array.from(data[name], (x, e) => x + step * direction[e]!),
        })
        const wanted = (loss(moved(1e-4)) - loss(moved(-1e-4))) / 2e-4
        const got = dot(await gradients[`d${name}`].data(), direction)
        expect(Math.abs(got - wanted), name).toBeLessThan(1e-4 * (1 + Math.abs(wanted)))
      }
    },
  )

  test('causal attention does not depend on later tokens, bit for bit', async () => {
    const n = { B: 1, T: 9, H: 2, d: 8 }
    const [q, k, v] = inputs(n)
    const tokens = async (values: Tensor) =>
      rowsOf(await ops.attention(q, k, values).y.data(), n.H * n.d)
    const changed = await v.data()
    changed.fill(99, 8 * n.H * n.d) // the last token

    const before = await tokens(v)
    const after = await tokens(device.tensor(changed, v.shape))

    expect(after.slice(0, 8)).toEqual(before.slice(0, 8))
    expect(after[8]).not.toEqual(before[8])
  })

  test('huge scores do not overflow', async () => {
    const [, , v] = inputs({ B: 1, T: 3, H: 1, d: 2 })
    const huge = device.tensor([1e18, 0, 0, 1e18, -1e18, 1], [1, 3, 1, 2])
    const { y } = ops.attention(huge, huge, v, { causal: false })
    expect((await y.data()).every(Number.isFinite)).toBe(true)
  })

  test('NaN in a query stays with its token', async () => {
    const [, k, v] = inputs({ B: 1, T: 3, H: 1, d: 2 })
    const q = device.tensor([1, 2, Number.NaN, 0, 1, 1], [1, 3, 1, 2])
    const tokens = rowsOf(Array.from(await ops.attention(q, k, v).y.data()), 2)
    expect(tokens.map((y) => y.some(Number.isNaN))).toEqual([false, true, false])
  })

  test('shapes, dtypes and options are checked', async () => {
    const [q, k, v] = inputs({ B: 1, T: 2, H: 1, d: 4 })
    await errorOf('ERR_SHAPE', () => ops.attention(q, k, device.zeros([1, 3, 1, 4])))
    await errorOf('ERR_SHAPE', () => ops.attention(device.zeros([2, 4]), k, v))
    const wide = device.zeros([1, 2, 1, 257])
    expect(await errorOf('ERR_SHAPE', () => ops.attention(wide, k, v))).toMatch(/256.*257/)
    await errorOf('ERR_DTYPE', () => ops.attention(q, k.to('float16'), v))
    await errorOf('ERR_OPTION', () => ops.attention(q, k, v, { casual: false } as never))
    const { y, lse } = ops.attention(q, k, v)
    await errorOf('ERR_SHAPE', () => ops.attentionBackward(device.zeros([1]), { q, k, v, y, lse }))
  })
})
