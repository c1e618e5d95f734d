import { describe, expect, test } from 'vitest'
import { type Device, type DType, ops, type Tensor } from '../../lib/index.js'
import * as groupedReference from '../reference/grouped-linear.js'
import * as linearReference from '../reference/linear.js'
import * as matmulReference from '../reference/matmul.js'
import * as lookupReference from '../reference/product-key-lookup.js'
import { halfScores } from '../reference/product-key-scores.js'
import { expectClose, magnitude } from '../support/close.js'
import { rounded, roundingComputes } from '../support/compute.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dataOf, expectIndices, lookupInputs, lookupShapes } from '../support/lookup.js'
import { randomTensor } from '../support/random.js'

const bfloat16 = { compute: 'bfloat16' } as const
const tf32 = { compute: 'tf32' } as const

// Of a sum of products, relative to the largest: the operands are exact, the sums are float32.
const tolerance = 2e-6

const sizes = [
  [1, 1, 1],
  [1, 100, 70],
  [3, 700, 33],
  [4, 17, 1],
  [5, 1, 40],
  [12, 32, 33],
  [13, 64, 31],
  [25, 30, 64],
  [47, 5, 65],
  [130, 800, 130],
  [90, 641, 2],
  [24, 9000, 3],
  [136, 144, 264],
] as const

const groups = [
  [[3], 4, 5],
  [[2, 0, 5, 1], 17, 9],
  [[65, 63, 1], 48, 40],
  [[30, 0, 100, 7], 100, 130],
] as const

onEveryDevice((device) => {
  describe.each(roundingComputes(device))('%s', (compute) => {
    const options = { compute }

    test.each(groups)('groups of %j rows, %i -> %i', async (sizes, I, O) => {
      const begins = [0]
      for (const size of sizes) begins.push(begins.at(-1)! + size)
      const [R, G] = [begins.at(-1)!, sizes.length]
      const x = randomTensor(device, [R, I], 1).tensor
      const weights = randomTensor(device, [G, O, I], 2).tensor
      const bias = randomTensor(device, [G, O], 3)
      const dy = randomTensor(device, [R, O], 4)
      const offsets = device.tensor(Int32Array.from(begins))

      const y = ops.groupedLinear(x, weights, offsets, bias.tensor, options)
      const found = ops.groupedLinearBackward(dy.tensor, x, weights, offsets, options)

      const [xs, ws, dys] = [
        await rounded(compute, x),
        await rounded(compute, weights),
        await rounded(compute, dy.tensor),
      ]
      const wanted = groupedReference.groupedLinear(xs, ws, begins, bias.data, I, O)
      expectClose('y', await y.data(), wanted, tolerance)
      const gradients = groupedReference.groupedLinearBackward(dys, xs, ws, begins, I, O)
      expectClose('dx', await found.dx.data(), gradients.dx, tolerance)
      expectClose('dWeights', await found.dWeights.data(), gradients.dWeights, tolerance)
      const exact = groupedReference.groupedLinearBackward(dy.data, xs, ws, begins, I, O)
      expectClose('dBias', await found.dBias.data(), exact.dBias, tolerance)
    })

    describe('linear', () => {
      test.each(sizes)(
        '%i x %i -> %i equals the reference on rounded operands',
        async (R, I, O) => {
          const x = randomTensor(device, [R, I], 1).tensor
          const weight = randomTensor(device, [O, I], 2).tensor
          const bias = randomTensor(device, [O], 3)
          const dy = randomTensor(device, [R, O], 4)

          const y = ops.linear(x, weight, bias.tensor, options)
          const { dx, dWeight, dBias } = ops.linearBackward(dy.tensor, x, weight, options)

          const [xs, ws, dys] = [
            await rounded(compute, x),
            await rounded(compute, weight),
            await rounded(compute, dy.tensor),
          ]
          const wanted = linearReference.linear(xs, ws, bias.data, R, I, O)
          expectClose('y', await y.data(), wanted, tolerance)
          const gradients = linearReference.linearBackward(dys, xs, ws, R, I, O)
          expectClose('dx', await dx.data(), gradients.dx, tolerance)
          expectClose('dWeight', await dWeight.data(), gradients.dWeight, tolerance)
          // no product: the sum of dy as it is
          const exact = linearReference.linearBackward(dy.data, xs, ws, R, I, O)
          expectClose('dBias', await dBias.data(), exact.dBias, tolerance)
        },
      )

      test.each<[DType, DType]>([
        ['bfloat16', 'float32'],
        ['float32', 'float16'],
        ['float16', 'bfloat16'],
        ['bfloat16', 'bfloat16'],
      ])('%s x and %s weight', async (dtypeX, dtypeW) => {
        const [R, I, O] = [30, 40, 50]
        const x = randomTensor(device, [R, I], 1).tensor.to(dtypeX)
        const weight = randomTensor(device, [O, I], 2).tensor.to(dtypeW)
        const dy = randomTensor(device, [R, O], 3).tensor
        const y = ops.linear(x, weight, undefined, options)
        const { dx, dWeight } = ops.linearBackward(dy, x, weight, options)
        const [xs, ws, dys] = [
          await rounded(compute, x),
          await rounded(compute, weight),
          await rounded(compute, dy),
        ]
        const wanted = linearReference.linear(xs, ws, undefined, R, I, O)
        expectClose('y', await y.data(), wanted, tolerance)
        const gradients = linearReference.linearBackward(dys, xs, ws, R, I, O)
        expectClose('dx', await dx.data(), gradients.dx, tolerance)
        expectClose('dWeight', await dWeight.data(), gradients.dWeight, tolerance)
      })

      test('every NaN stays NaN', async () => {
        const bits = Uint32Array.of(0x7fffffff, 0xffffffff, 0x7f800001, 0xffc00000)
        for (const columns of [1, 40]) {
          const data = new Float32Array(bits.length * columns)
          const words = new Uint32Array(data.buffer)
          for (const [r, nan] of bits.entries()) words.fill(nan, r * columns, (r + 1) * columns)
          const x = device.tensor(data, [bits.length, columns])
          const weight = device.tensor(new Float32Array(30 * columns).fill(1), [30, columns])
          const y = await ops.linear(x, weight, undefined, options).data()
          expect(y.every(Number.isNaN)).toBe(true)
        }
      })

      test('no rows, and an empty inner dimension', async () => {
        const bias = device.tensor([1, 2, 3])
        const y = ops.linear(device.zeros([2, 0]), device.zeros([3, 0]), bias, options)
        expect(await y.data()).toEqual(Float32Array.from([1, 2, 3, 1, 2, 3]))
        const none = ops.linear(device.zeros([0, 4]), device.zeros([3, 4]), undefined, options)
        expect((await none.data()).length).toBe(0)
      })

      test('gradients through the graph are those of linearBackward', async () => {
        const [R, I, O] = [5, 18, 7]
        const x = randomTensor(device, [R, I], 1).tensor.requireGrad()
        const weight = randomTensor(device, [O, I], 2).tensor.requireGrad()
        const dy = randomTensor(device, [R, O], 3).tensor
        ops.linear(x, weight, undefined, options).backward(dy)
        const { dx, dWeight } = ops.linearBackward(dy, x, weight, options)
        expect(await x.grad!.data()).toEqual(await dx.data())
        expect(await weight.grad!.data()).toEqual(await dWeight.data())
      })
    })

    describe('matmul', () => {
      const transposes = [
        { transposeX: false, transposeY: false },
        { transposeX: true, transposeY: false },
        { transposeX: false, transposeY: true },
        { transposeX: true, transposeY: true },
      ]
      describe.each(transposes)('%j', (sides) => {
        test.each([
          [[], [], 5, 4, 3],
          [[], [], 40, 70, 33],
          [[3], [3], 30, 18, 50],
          [[2, 3], [3], 17, 9, 2],
          [[], [4], 8, 600, 24],
          [[2], [1], 64, 40, 72],
        ] as [number[], number[], number, number, number][])(
          '%j %j: %i x %i x %i',
          async (batchX, batchY, M, K, N) => {
            const shapeX = [...batchX, ...(sides.transposeX ? [K, M] : [M, K])]
            const shapeY = [...batchY, ...(sides.transposeY ? [N, K] : [K, N])]
            const x = randomTensor(device, shapeX, 1).tensor
            const y = randomTensor(device, shapeY, 2).tensor
            const out = ops.matmul(x, y, { ...sides, ...options })
            const dOut = randomTensor(device, out.shape, 3).tensor
            const { dx, dy } = ops.matmulBackward(dOut, x, y, { ...sides, ...options })
            const xs = { shape: shapeX, data: await rounded(compute, x) }
            const ys = { shape: shapeY, data: await rounded(compute, y) }
            const wanted = matmulReference.matmul(xs, ys, sides).data
            expectClose('out', await out.data(), wanted, tolerance)
            const dOuts = await rounded(compute, dOut)
            const gradients = matmulReference.matmulBackward(dOuts, xs, ys, sides)
            expectClose('dx', await dx.data(), gradients.dx, tolerance)
            expectClose('dy', await dy.data(), gradients.dy, tolerance)
          },
        )
      })

      test('gradients through the graph are those of matmulBackward', async () => {
        const x = randomTensor(device, [4, 18], 1).tensor.requireGrad()
        const y = randomTensor(device, [18, 7], 2).tensor.requireGrad()
        const dOut = randomTensor(device, [4, 7], 3).tensor
        ops.matmul(x, y, options).backward(dOut)
        const { dx, dy } = ops.matmulBackward(dOut, x, y, options)
        expect(await x.grad!.data()).toEqual(await dx.data())
        expect(await y.grad!.data()).toEqual(await dy.data())
      })
    })

    describe('productKeyLookup', () => {
      test.each(lookupShapes)('%s: equals the reference on rounded operands', async (_, shape) => {
        const { k: knn } = shape
        const { query, keys } = lookupInputs(device, shape, 5)
        const [q, w] = [await rounded(compute, query.tensor), await rounded(compute, keys.tensor)]
        const found = ops.productKeyLookup(query.tensor, keys.tensor, { knn, ...options })
        const data = await dataOf(found)
        const half = halfScores(q, w, shape)
        const wanted = lookupReference.lookup(half, shape, 'softmax')
        expectIndices(data.indices, wanted, knn)
        expectClose('scores', data.scores, wanted.scores, 1e-5, finiteMagnitude(wanted.scores))

        const dWeights = randomTensor(device, found.weights.shape, 6)
        const inputs = { query: query.tensor, keys: keys.tensor }
        const got = ops.productKeyLookupBackward(found, dWeights.tensor, inputs)
        const exact = lookupReference.lookupBackward(q, w, shape, 'softmax', data, dWeights.data)
        expectClose('dQuery', await got.dQuery.data(), exact.dQuery, 1e-5)
        expectClose('dKeys', await got.dKeys.data(), exact.dKeys, 1e-5)
      })
    })
  })

  test('bfloat16: ties round to even; NaN, infinities and what overflows to them', async () => {
    const ulp = 2 ** -7 // of bfloat16, between 1 and 2
    const max = 3.3895313892515355e38 // the largest bfloat16
    const numbers = [1 + ulp / 2, 1 + (3 * ulp) / 2, 1 + 0.51 * ulp, -1 - ulp / 2, 1e-45]
    const special = [Number.NaN, Infinity, -Infinity, 3.4e38, max, -3.4e38]
    const x = device.tensor([...numbers, ...special], [numbers.length + special.length, 1])
    const y = await ops.linear(x, device.tensor([1], [1, 1]), undefined, bfloat16).data()
    const wanted = [1, 1 + 2 * ulp, 1 + ulp, -1, 0]
    expect(Array.from(y)).toEqual([
      ...wanted,
      ...[Number.NaN, Infinity, -Infinity, Infinity, max, -Infinity],
    ])
  })

  if (device.kind !== 'cpu')
    test('tf32: ties round away from zero; NaN and infinities', async () => {
      const ulp = 2 ** -10 // of TF32, between 1 and 2
      const numbers = [1 + ulp / 2, 1 + (3 * ulp) / 2, 1 + 0.49 * ulp, -1 - ulp / 2, 0.75]
      const special = [Number.NaN, Infinity, -Infinity, 3e38]
      const x = device.tensor([...numbers, ...special], [numbers.length + special.length, 1])
      const y = await ops.linear(x, device.tensor([1], [1, 1]), undefined, tf32).data()
      const wanted = [1 + ulp, 1 + 2 * ulp, 1, -1 - ulp, 0.75, Number.NaN, Infinity, -Infinity]
      expect(Array.from(y).slice(0, -1)).toEqual(wanted)
      expect(y.at(-1)! / 3e38).toBeCloseTo(1, 3)
    })

  test('what is not computed is refused by name', async () => {
    const x = device.zeros([2, 3])
    const weight = device.zeros([4, 3])
    const calls: ((compute: 'tf32') => unknown)[] = [
      (compute) => ops.linear(x, weight, undefined, { compute }),
      (compute) => ops.linearBackward(device.zeros([2, 4]), x, weight, { compute }),
      (compute) => ops.matmul(x, weight, { transposeY: true, compute }),
      (compute) => ops.productKeyLookup(...zeroLookup(device), { knn: 1, compute }),
    ]
    for (const call of calls) {
      await errorOf('ERR_VALUE', () => call('float16' as 'tf32'))
      if (device.kind !== 'cpu') continue
      const message = await errorOf('ERR_UNSUPPORTED', () => call('tf32'))
      expect(message).toContain("'tf32'")
      expect(message).toContain(device.kind)
    }
    const int8 = device.zeros([4, 3], 'int8')
    await errorOf('ERR_DTYPE', () => ops.linear(x, int8, undefined, bfloat16))
    await errorOf('ERR_DTYPE', () => ops.matmul(int8, weight, { transposeY: true, ...bfloat16 }))
    await errorOf('ERR_SHAPE', () => ops.linear(x, device.zeros([4, 5]), undefined, bfloat16))
  })
})

function finiteMagnitude(x: ArrayLike<number>): number {
  return magnitude(Array.from(x).filter(Number.isFinite))
}

function zeroLookup(device: Device): [Tensor, Tensor] {
  return [device.zeros([1, 1, 2, 3]), device.zeros([1, 2, 4, 3])]
}
