import { describe, expect, test } from 'vitest'
import { type Device, ops, type Tensor } from '../../lib/index.js'
import { attention, attentionBackward, type Shape } from '../reference/attention.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot } from '../support/finite-differences.js'
import { rowsOf } from '../support/rows.js'

type Named = 'q' | 'k' | 'v' | 'dy'

const square = (B: number, T: number, H: number, d: number): Shape => ({ B, T, H, K: T, G: H, d })

const shapes: Shape[] = [
  square(1, 1, 1, 1),
  square(2, 7, 3, 8),
  square(1, 33, 2, 19),
  square(1, 5, 1, 256),
  square(0, 4, 2, 4),
  { B: 2, T: 6, H: 4, K: 6, G: 2, d: 5 },
  { B: 1, T: 3, H: 6, K: 20, G: 1, d: 7 },
  { B: 1, T: 1, H: 4, K: 37, G: 2, d: 24 }, // a token with a cache
  { B: 1, T: 66, H: 2, K: 90, G: 1, d: 3 },
  { B: 1, T: 9, H: 1, K: 4, G: 1, d: 6 }, // the first queries see no key
  { B: 1, T: 3, H: 2, K: 0, G: 2, d: 4 },
  { B: 1, T: 0, H: 2, K: 3, G: 2, d: 4 },
]

// Several blocks of queries and of keys; the emulator is too slow for them.
const large: Shape[] = [
  square(1, 150, 1, 33),
  { B: 2, T: 210, H: 2, K: 500, G: 1, d: 32 },
  { B: 1, T: 300, H: 1, K: 200, G: 1, d: 17 },
]

function inputs(device: Device, n: Shape): Record<Named, Tensor> {
  const query = [n.B, n.T, n.H, n.d]
  const key = [n.B, n.K, n.G, n.d]
  return {
    q: device.normal(query, { seed: 1 }),
    k: device.normal(key, { seed: 2 }),
    v: device.normal(key, { seed: 3 }),
    dy: device.normal(query, { seed: 4 }),
  }
}

/** What attention and its gradients are for these values; a device's own are made of them. */
async function results(device: Device, n: Shape, values: Record<Named, Float32Array>) {
  const query = [n.B, n.T, n.H, n.d]
  const key = [n.B, n.K, n.G, n.d]
  const [q, dy] = [device.tensor(values.q, query), device.tensor(values.dy, query)]
  const [k, v] = [device.tensor(values.k, key), device.tensor(values.v, key)]
  const { y, lse } = ops.attention(q, k, v)
  const { dq, dk, dv } = ops.attentionBackward(dy, { q, k, v, y, lse })
  const tensors = { y, lse, dq, dk, dv }
  const data = await Promise.all(Object.values(tensors).map((t) => t.data()))
  return Object.fromEntries(Object.keys(tensors).map((name, i) => [name, data[i]!])) as {
    [name in keyof typeof tensors]: Float32Array
  }
}

async function valuesOf(tensors: Record<Named, Tensor>): Promise<Record<Named, Float32Array>> {
  const { q, k, v, dy } = tensors
  const data = await Promise.all([q, k, v, dy].map((t) => t.data()))
  const [qs, ks, vs, dys] = data as [Float32Array, Float32Array, Float32Array, Float32Array]
  return { q: qs, k: ks, v: vs, dy: dys }
}

onEveryDevice((device) => {
  const titled = [...shapes, ...(device.name === 'simt' ? [] : large)].map((n) => ({
    title: Object.entries(n).flat().join(' '),
    n,
  }))
  describe.each(titled)('$title', ({ n }) => {
    test.each([true, false])('equals the float64 reference, causal: %s', async (causal) => {
      const tensors = inputs(device, n)
      const { q, k, v, dy } = tensors
      const x = await valuesOf(tensors)
      const scale = 1 / Math.sqrt(n.d)

      const { y, lse } = ops.attention(q, k, v, { causal })
      const got = ops.attentionBackward(dy, { q, k, v, y, lse }, { causal })

      const wanted = attention(x.q, x.k, x.v, n, scale, causal)
      expectClose('y', await y.data(), wanted.y)
      expectClose('lse', await lse.data(), wanted.lse, 1e-5, 1)
      const gradients = attentionBackward(x.dy, x.q, x.k, x.v, n, scale, causal)
      for (const name of ['dq', 'dk', 'dv'] as const)
        expectClose(name, await got[name].data(), gradients[name], 2e-5)
    })
  })

  test.each([true, false])(
    'gradients equal finite differences along random directions, causal: %s',
    async (causal) => {
      const n = { B: 2, T: 6, H: 4, K: 8, G: 2, d: 5 }
      const options = { causal, scale: 0.7 }
      const tensors = inputs(device, n)
      const { q, k, v, dy } = tensors

      const { y, lse } = ops.attention(q, k, v, options)
      const gradients = ops.attentionBackward(dy, { q, k, v, y, lse }, options)

      const { dy: dyData, ...data } = await valuesOf(tensors)
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

  test('a shared head of keys equals the same head repeated', async () => {
    const n = { B: 1, T: 5, H: 4, K: 9, G: 2, d: 6 }
    const { q, k, v } = inputs(device, n)
    const repeated = async (x: Tensor) => {
      const rows = rowsOf(await x.data(), n.d) // [K, G]
      const all = rows.flatMap((row) => Array.from({ length: n.H / n.G }, () => [...row]).flat())
      return device.tensor(all, [n.B, n.K, n.H, n.d])
    }
    const shared = await ops.attention(q, k, v).y.data()
    expectClose('y', await ops.attention(q, await repeated(k), await repeated(v)).y.data(), shared)
  })

  test('the last queries over a cache equal the last ones of all', async () => {
    const n = square(1, 40, 2, 16)
    const { q, k, v } = inputs(device, n)
    const row = n.H * n.d
    const all = rowsOf(await ops.attention(q, k, v).y.data(), row)
    const queries = await q.data()
    for (const last of [1, 2, 13]) {
      const tail = device.tensor(queries.slice(-last * row), [1, last, n.H, n.d])
      const y = await ops.attention(tail, k, v).y.data()
      expectClose(
        `${last}`,
        y,
        all.slice(-last).flatMap((r) => [...r]),
      )
    }
  })

  test('nothing that a query does not see reaches it, bit for bit', async () => {
    const n = { B: 1, T: 40, H: 1, K: 43, G: 1, d: 9 }
    const x = await valuesOf(inputs(device, n))
    const before = await results(device, n, x)
    for (const t of [0, 7, 31]) {
      // keys behind the one at query t, and the gradients and queries behind t
      const [u, hidden] = [n.K - n.T + t, { ...x }]
      for (const name of ['k', 'v'] as const) {
        hidden[name] = x[name].slice()
        hidden[name].fill(Number.NaN, (u + 1) * n.G * n.d)
      }
      const after = await results(device, n, hidden)
      const row = n.H * n.d
      for (const name of ['y', 'dq'] as const)
        expect(after[name].slice(0, (t + 1) * row)).toEqual(before[name].slice(0, (t + 1) * row))
      expect(after.y.slice((t + 1) * row).every(Number.isNaN)).toBe(true)
    }
    for (const t of [7, 31]) {
      const earlier = { ...x, q: x.q.slice(), dy: x.dy.slice() }
      for (const name of ['q', 'dy'] as const) earlier[name].fill(Number.NaN, 0, t * n.H * n.d)
      const after = await results(device, n, earlier)
      const first = (n.K - n.T + t) * n.G * n.d // of what no earlier query sees
      for (const name of ['dk', 'dv'] as const)
        expect(after[name].slice(first)).toEqual(before[name].slice(first))
    }
  })

  test('huge scores do not overflow', async () => {
    const { v } = inputs(device, square(1, 3, 1, 2))
    const huge = device.tensor([1e18, 0, 0, 1e18, -1e18, 1], [1, 3, 1, 2])
    const { y, lse } = ops.attention(huge, huge, v, { causal: false })
    expect((await y.data()).every(Number.isFinite)).toBe(true)
    const gradients = ops.attentionBackward(v, { q: huge, k: huge, v, y, lse }, { causal: false })
    expect((await gradients.dv.data()).every(Number.isFinite)).toBe(true)
  })

  test('scores of -Infinity weigh nothing, wherever they stand', async () => {
    const n = { B: 1, T: 8, H: 1, K: 300, G: 1, d: 2 }
    const k = new Float32Array(n.K * n.d)
    for (let u = 0; u < n.K; u++) k[u * n.d] = u < 290 ? -3e38 : 0
    const v = Float32Array.from({ length: n.K * n.d }, (_, i) => (i < 290 * n.d ? 1 : 2))
    const q = device.tensor([1e3, 0], [1, 1, 1, 2])
    const many = device.tensor(Array.from({ length: n.T }, () => [1e3, 0]).flat(), [1, n.T, 1, 2])
    const shape = [1, n.K, 1, 2]
    for (const queries of [q, many]) {
      const y = ops.attention(queries, device.tensor(k, shape), device.tensor(v, shape)).y
      expect([...(await y.data())].slice(-2)).toEqual([2, 2])
    }
  })

  test('NaN in a query stays with its token', async () => {
    const { k, v } = inputs(device, square(1, 3, 1, 2))
    const q = device.tensor([1, 2, Number.NaN, 0, 1, 1], [1, 3, 1, 2])
    const tokens = rowsOf(Array.from(await ops.attention(q, k, v).y.data()), 2)
    expect(tokens.map((y) => y.some(Number.isNaN))).toEqual([false, true, false])
  })

  test('NaN and Infinity in keys reach every query that sees them', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const n = square(1, 20, 1, 4)
      const x = await valuesOf(inputs(device, n))
      x.k[10 * n.d] = bad
      const { y, lse } = await results(device, n, x)
      for (let t = 0; t < n.T; t++) {
        const positive = x.q[t * n.d]! > 0 // else Infinity makes a weight of zero
        const reached = t >= 10 && (Number.isNaN(bad) || positive)
        expect(Number.isNaN(y[t * n.d]!), `y ${t}`).toBe(reached)
        expect(Number.isFinite(lse[t]!), `lse ${t}`).toBe(!reached)
      }
    }
  })

  test('shapes, dtypes and options are checked', async () => {
    const { q, k, v } = inputs(device, square(1, 2, 1, 4))
    await errorOf('ERR_SHAPE', () => ops.attention(q, k, device.zeros([1, 3, 1, 4])))
    await errorOf('ERR_SHAPE', () => ops.attention(device.zeros([2, 4]), k, v))
    const wide = device.zeros([1, 2, 1, 257])
    expect(await errorOf('ERR_SHAPE', () => ops.attention(wide, k, v))).toMatch(/256.*257/)
    const [two, three, none] = [2, 3, 0].map((heads) => device.zeros([1, 2, heads, 4]))
    expect(await errorOf('ERR_SHAPE', () => ops.attention(three!, two!, two!))).toMatch(/divide.*3/)
    await errorOf('ERR_SHAPE', () => ops.attention(q, none!, none!))
    await errorOf('ERR_SHAPE', () => ops.attention(q, device.zeros([2, 2, 1, 4]), v))
    await errorOf('ERR_DTYPE', () => ops.attention(q, k.to('float16'), v))
    await errorOf('ERR_OPTION', () => ops.attention(q, k, v, { casual: false } as never))
    const { y, lse } = ops.attention(q, k, v)
    await errorOf('ERR_SHAPE', () => ops.attentionBackward(device.zeros([1]), { q, k, v, y, lse }))
  })
})
