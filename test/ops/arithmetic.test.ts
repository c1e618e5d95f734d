import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openDevice, ops, type Tensor } from '../../lib/index.js'
import { add, combine, type NdArray } from '../reference/arithmetic.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { randomTensor, uniform } from '../support/random.js'

type Name = 'add' | 'sub' | 'mul' | 'div'
const formulas: Record<Name, (x: number, y: number) => number> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
}
const names = Object.keys(formulas) as Name[]

const pairs: [number[], number[]][] = [
  [[7], [7]],
  [[], []],
  [[3, 5], []],
  [[1], [2, 9]],
  [[4, 33], [33]],
  [[33], [4, 33]],
  [
    [4, 33],
    [4, 1],
  ],
  [
    [6, 1],
    [1, 5],
  ],
  [
    [2, 1, 4, 8],
    [3, 1, 8],
  ],
  [
    [5, 4, 1, 3],
    [1, 6, 3],
  ],
  [
    [2, 1, 3, 1, 2, 1],
    [1, 2, 1, 3, 1, 4],
  ],
  [
    [1, 1],
    [1, 1, 1],
  ],
  [
    [3, 0],
    [3, 1],
  ],
  [
    [0, 4],
    [1, 4],
  ],
]

onEveryDevice((device) => {
  const made = (shape: number[], seed: number): { array: NdArray; tensor: Tensor } => {
    const { tensor, data } = randomTensor(device, shape, seed)
    return { array: { shape, data }, tensor }
  }

  describe.each(names)('%s', (name) => {
    test.each(pairs)('%j and %j equal the reference', async (shapeX, shapeY) => {
      const [x, y] = [made(shapeX, 1), made(shapeY, 2)]
      const wanted = combine(x.array, y.array, formulas[name])
      const got = ops[name](x.tensor, y.tensor)
      expect(got.shape).toEqual(wanted.shape)
      // each result within an ulp: quotients may be large
      const data = await got.data()
      for (const [i, w] of wanted.data.entries())
        expectClose(`${name}[${i}]`, [data[i]!], [w], 1e-6, Math.abs(w) + 0.1)
    })

    test('any shapes that broadcast', async () => {
      const axis = fc.record({
        size: fc.integer({ min: 1, max: 5 }),
        of: fc.integer({ max: 3, min: 0 }),
      })
      await fc.assert(
        fc.asyncProperty(
          fc.array(axis, { maxLength: 6 }),
          fc.integer({ min: 0, max: 5 }),
          async (axes, dropped) => {
            const x = made(
              axes.map((a) => (a.of === 1 ? 1 : a.size)),
              3,
            )
            const y = made(axes.map((a) => (a.of === 2 ? 1 : a.size)).slice(dropped), 4)
            const wanted = combine(x.array, y.array, formulas[name])
            const got = ops[name](x.tensor, y.tensor)
            expect(got.shape).toEqual(wanted.shape)
            expectClose(name, await got.data(), wanted.data, 1e-6)
          },
        ),
        { numRuns: device.kind === 'cpu' ? 100 : 20 },
      )
    })

    test('a number stands for either operand', async () => {
      const x = made([3, 7], 1)
      const two: NdArray = { shape: [], data: [2.5] }
      const f = formulas[name]
      const right = await ops[name](x.tensor, 2.5).data()
      expectClose('x, 2.5', right, combine(x.array, two, f).data, 1e-6)
      const left = await ops[name](2.5, x.tensor).data()
      expectClose('2.5, x', left, combine(two, x.array, f).data, 1e-6)
    })

    test('`out` may be an operand of its shape, and no other', async () => {
      const [x, y] = [made([4, 3], 1), made([3], 2)]
      const wanted = await ops[name](x.tensor, y.tensor).data()
      expect(ops[name](x.tensor, y.tensor, { out: x.tensor })).toBe(x.tensor)
      expect(await x.tensor.data()).toEqual(wanted)
      const memory = device.normal([4, 3], { seed: 5 })
      const row = memory.rows(1, 2)
      await errorOf('ERR_VALUE', () => ops[name](memory, row, { out: memory }))
      await errorOf('ERR_SHAPE', () => ops[name](x.tensor, y.tensor, { out: y.tensor }))
    })

    test('NaN, infinities and zeros are as IEEE 754 says', async () => {
      const values = [0, -0, 1, -1, Infinity, -Infinity, Number.NaN, 1e-40, 3e38]
      const x = Float32Array.from(values.flatMap((v) => values.map(() => v)))
      const y = Float32Array.from(values.flatMap(() => values))
      const got = await ops[name](device.tensor(x), device.tensor(y)).data()
      const wanted = Float32Array.from(x, (v, i) => formulas[name](v, y[i]!))
      expect(got).toEqual(wanted)
    })

    test('shapes, dtypes and numbers are checked', async () => {
      const x = device.zeros([2, 3])
      const message = await errorOf('ERR_SHAPE', () => ops[name](x, device.zeros([2])))
      expect(message).toContain(`${name}: "y" must have a shape that broadcasts with [2, 3]`)
      expect(message).toContain('got [2]')
      await errorOf('ERR_DTYPE', () => ops[name](x, device.zeros([3], 'int32')))
      await errorOf('ERR_DTYPE', () => ops[name](1, 2))
      await errorOf('ERR_VALUE', () => ops[name](x, Number.NaN))
      await errorOf('ERR_VALUE', () => ops[name](1e39, x))
      await errorOf('ERR_DTYPE', () => ops[name](x, [1] as never))
    })
  })

  test('add: alpha * x + beta * y, also broadcast', async () => {
    const x = randomTensor(device, [1001], 1)
    const y = randomTensor(device, [1001], 2)
    const sum = ops.add(x.tensor, y.tensor, { alpha: 2, beta: -0.5 })
    expectClose('sum', await sum.data(), add(x.data, y.data, 2, -0.5), 1e-6)
    const [a, b] = [made([2, 1, 5], 3), made([3, 1], 4)]
    const wanted = combine(a.array, b.array, (v, w) => 2 * v - 0.5 * w).data
    const got = await ops.add(a.tensor, b.tensor, { alpha: 2, beta: -0.5 }).data()
    expectClose('broadcast', got, wanted, 1e-6)
  })

  test('a result of too many elements is refused before anything is allocated', async () => {
    const column = device.zeros([0, 2 ** 26, 1])
    const row = device.zeros([1, 1, 2 ** 26])
    await errorOf('ERR_SHAPE', () => ops.add(column, row))
  })

  test('devices are checked', async () => {
    const x = device.zeros([1001])
    await errorOf('ERR_DEVICE_MISMATCH', () =>
      ops.add(x, openDevice('cpu', { threads: 3 }).zeros([1001])),
    )
  })
})

test('every thread count gives the same bits', async () => {
  const bits = async (threads: number) => {
    const device = openDevice('cpu', { threads })
    const x = device.tensor(uniform(300 * 401, 1), [300, 401])
    const y = device.tensor(uniform(300, 2), [300, 1])
    return Buffer.from((await ops.div(x, y).data()).buffer)
  }
  const wanted = await bits(1)
  for (const threads of [2, 3]) expect((await bits(threads)).equals(wanted)).toBe(true)
})
