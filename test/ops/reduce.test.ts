import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openDevice, ops, type Tensor } from '../../lib/index.js'
import * as reference from '../reference/reduce.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor, uniform } from '../support/random.js'

const kinds = ['sum', 'mean', 'max'] as const

const cases: [number[], number[]][] = [
  [[], []],
  [[7], [0]],
  [[1], [0]],
  [[3000], [0]],
  [[5, 6], []],
  [[5, 6], [0]],
  [[5, 6], [1]],
  [
    [5, 6],
    [0, 1],
  ],
  [[4, 700], [1]],
  [[700, 4], [0]],
  [[1100, 70], [0]],
  [[3, 4, 5], [1]],
  [
    [3, 4, 5],
    [0, 2],
  ],
  [
    [2, 3, 4, 5, 2, 3],
    [1, 3, 5],
  ],
  [
    [2, 3, 4, 5, 2, 3],
    [0, 2, 4],
  ],
  [
    [2, 300, 2, 3],
    [0, 1, 3],
  ],
  [
    [1, 9, 1, 4],
    [0, 2, 3],
  ],
]

onEveryDevice((device) => {
  const backward = (
    kind: (typeof kinds)[number],
    dy: Tensor,
    x: Tensor,
    y: Tensor,
    options: { axes?: number | readonly number[]; keepDims?: boolean; out?: Tensor },
  ) =>
    kind === 'max'
      ? ops.maxBackward(dy, x, y, options)
      : ops[`${kind}Backward`](dy, x.shape, options)

  describe.each(kinds)('%s', (kind) => {
    test.each(cases)(
      '%j over %j equals the reference, and so does the gradient',
      async (shape, axes) => {
        const x = randomTensor(device, shape, 1)
        const array = { shape, data: x.data }
        const y = ops[kind](x.tensor, { axes })
        const kept = ops[kind](x.tensor, { axes, keepDims: true })
        expect(y.shape).toEqual(shape.filter((_, i) => !axes.includes(i)))
        expect(kept.shape).toEqual(reference.keptShape(shape, axes))
        const wanted = reference.reduce(kind, array, axes)
        const scale = kind === 'sum' ? Math.sqrt(x.data.length) : 1
        expectClose('y', await y.data(), wanted, kind === 'max' ? 0 : 1e-6, scale)
        expect(await kept.data()).toEqual(await y.data())

        const dy = randomTensor(device, y.shape, 2)
        const dx = await backward(kind, dy.tensor, x.tensor, y, { axes }).data()
        expectClose('dx', dx, reference.reduceBackward(kind, dy.data, array, axes), 1e-6)
        const dyKept = device.tensor(dy.data, kept.shape)
        const options = { axes, keepDims: true }
        expect(await backward(kind, dyKept, x.tensor, kept, options).data()).toEqual(dx)
      },
    )

    test('the gradient equals finite differences', async () => {
      const shape = [3, 4, 2]
      for (const axes of [[1], [0, 2], [0, 1, 2]]) {
        const x = randomTensor(device, shape, 3)
        const y = ops[kind](x.tensor, { axes })
        const dy = randomTensor(device, y.shape, 4)
        const dx = await backward(kind, dy.tensor, x.tensor, y, { axes }).data()
        const loss = (data: ArrayLike<number>) =>
          dot(dy.data, reference.reduce(kind, { shape, data }, axes))
        expectGradient(`dx over ${axes}`, dx, loss, x.data)
      }
    })

    test('any shape and axes', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ size: fc.integer({ min: 1, max: 6 }), reduced: fc.boolean() }), {
            maxLength: 6,
          }),
          async (list) => {
            const shape = list.map((a) => a.size)
            const axes = list.flatMap((a, i) => (a.reduced ? [i] : []))
            const x = randomTensor(device, shape, 5)
            const negative = axes.map((axis) => axis - shape.length)
            const y = ops[kind](x.tensor, { axes: negative })
            const wanted = reference.reduce(kind, { shape, data: x.data }, axes)
            expectClose(kind, await y.data(), wanted, 1e-6, Math.sqrt(x.data.length))
          },
        ),
        { numRuns: device.kind === 'cpu' ? 100 : 20 },
      )
    })

    test('all axes where none are named; one axis as a number', async () => {
      const x = randomTensor(device, [5, 7], 6)
      expect(await ops[kind](x.tensor).data()).toEqual(
        await ops[kind](x.tensor, { axes: [0, 1] }).data(),
      )
      expect(await ops[kind](x.tensor, { axes: -1 }).data()).toEqual(
        await ops[kind](x.tensor, { axes: [1] }).data(),
      )
    })

    test('NaN and infinities stay in their outputs', async () => {
      for (const [shape, axes] of [
        [[3, 50], 1],
        [[50, 3], 0],
      ] as const) {
        const x = uniform(150, 7)
        const at = (i: number, o: number) => (axes === 1 ? o * 50 + i : i * 3 + o)
        x[at(20, 0)] = Number.NaN
        x[at(40, 0)] = Infinity
        x[at(7, 1)] = Infinity
        const y = await ops[kind](device.tensor(x, shape), { axes }).data()
        expect(y[0]).toBeNaN()
        expect(y[1]).toBe(Infinity)
        expect(Number.isFinite(y[2])).toBe(true)
      }
    })

    test('axes, dtypes and shapes are checked', async () => {
      const x = device.zeros([2, 3])
      await errorOf('ERR_VALUE', () => ops[kind](x, { axes: 2 }))
      await errorOf('ERR_VALUE', () => ops[kind](x, { axes: -3 }))
      await errorOf('ERR_VALUE', () => ops[kind](x, { axes: [0.5] }))
      await errorOf('ERR_VALUE', () => ops[kind](x, { axes: [0, -2] }))
      await errorOf('ERR_VALUE', () => ops[kind](x, { axes: '0' as never }))
      await errorOf('ERR_VALUE', () => ops[kind](device.zeros([]), { axes: 0 }))
      await errorOf('ERR_DTYPE', () => ops[kind](device.zeros([2], 'int32')))
      await errorOf('ERR_SHAPE', () => ops[kind](x, { axes: 0, out: device.zeros([2]) }))
      const y = device.zeros([3])
      const call = () => backward(kind, device.zeros([2]), x, y, { axes: 0 })
      expect(await errorOf('ERR_SHAPE', call)).toContain(`${kind}Backward: "dy"`)
    })
  })

  test('of no elements: sum 0, mean NaN, no max', async () => {
    for (const [shape, axes] of [
      [[3, 0], 1],
      [[0, 3], 0],
    ] as const) {
      const x = device.zeros(shape)
      expect(await ops.sum(x, { axes }).data()).toEqual(new Float32Array(3))
      expect(await ops.mean(x, { axes }).data()).toEqual(new Float32Array(3).fill(Number.NaN))
      await errorOf('ERR_SHAPE', () => ops.max(x, { axes }))
      const other = 1 - axes
      for (const kind of kinds) expect(ops[kind](x, { axes: other }).shape).toEqual([0])
      expect(ops.sumBackward(device.zeros([3]), shape, { axes }).size).toBe(0)
    }
  })

  test('the gradient of max goes to the first of equals, and to the first NaN', async () => {
    const rows = [
      [1, 3, 3, 2],
      [0, -0, 0, -1],
      [5, Number.NaN, 7, Number.NaN],
      [-Infinity, -Infinity, -Infinity, -Infinity],
    ]
    const wanted = [
      [0, 1, 0, 0],
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [1, 0, 0, 0],
    ]
    for (const axes of [0, 1]) {
      const turned = (m: number[][]) => (axes === 1 ? m : m.map((_, i) => m.map((r) => r[i]!)))
      const x = device.tensor(turned(rows).flat(), [4, 4])
      const y = ops.max(x, { axes })
      const ones = device.tensor([1, 1, 1, 1])
      const dx = ops.maxBackward(ones, x, y, { axes, out: x })
      expect(dx).toBe(x)
      expect(Array.from(await dx.data())).toEqual(turned(wanted).flat())
    }
  })

  test('long sums are accurate', async () => {
    const n = device.kind === 'cpu' ? 3_000_000 : 60_000
    const tolerance = 2e-6 // one float32 sum of as many equal numbers is off by 1e-3 and more
    const x = device.tensor(new Float32Array(n).fill(0.1))
    const exact = n * Math.fround(0.1)
    expectClose('sum', await ops.sum(x).data(), [exact], tolerance)
    const columns = ops.sum(x.reshape([n / 3, 3]), { axes: 0 })
    const third = exact / 3
    expectClose('of columns', await columns.data(), [third, third, third], tolerance)
    expectClose('mean', await ops.mean(x).data(), [Math.fround(0.1)], tolerance)
  })
})

test('every thread count gives the same bits', async () => {
  const bits = async (threads: number) => {
    const device = openDevice('cpu', { threads })
    const x = device.tensor(uniform(120_000, 1), [2, 100, 600])
    const results = [
      ops.sum(x),
      ops.sum(x, { axes: 1 }),
      ops.mean(x, { axes: [0, 2] }),
      ops.sum(x, { axes: 0 }),
      ops.maxBackward(device.tensor([1], []), x, ops.max(x)),
    ]
    return Promise.all(results.map(async (t) => Buffer.from((await t.data()).buffer)))
  }
  const wanted = await bits(1)
  for (const threads of [2, 3])
    for (const [i, found] of (await bits(threads)).entries())
      expect(found.equals(wanted[i]!), `result ${i}, ${threads} threads`).toBe(true)
})
