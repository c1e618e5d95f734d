import { describe, expect, test } from 'vitest'
import { type DType, openDevice, ops } from '../../lib/index.js'
import * as reference from '../reference/matmul.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor, randomTensorOf, uniform } from '../support/random.js'

// M, N, K, and the axes before the matrices
const sizes: [number, number, number, number[], number[]][] = [
  [1, 1, 1, [], []],
  [3, 5, 4, [], []],
  [70, 65, 33, [], []],
  [1, 40, 17, [3], [3]],
  [13, 2, 9, [4], [4]],
  [14, 35, 20, [2], [2]],
  [5, 6, 7, [2, 3], []],
  [5, 6, 7, [], [2, 3]],
  [5, 6, 7, [2, 1], [3]],
  [4, 3, 2, [2, 3, 1, 2], [1, 3, 2, 1]],
  [6, 3, 5, [1, 1], [2, 1]],
]
const transposes = [false, true].flatMap((transposeX) =>
  [false, true].map((transposeY) => ({ transposeX, transposeY })),
)

onEveryDevice((device) => {
  const shapes = (
    [M, N, K, batchX, batchY]: (typeof sizes)[number],
    t: { transposeX: boolean; transposeY: boolean },
  ) => [
    [...batchX, ...(t.transposeX ? [K, M] : [M, K])],
    [...batchY, ...(t.transposeY ? [N, K] : [K, N])],
  ]

  describe.each(transposes)('%j', (t) => {
    test.each(sizes)('%i x %i by %i of %j and %j equals the reference', async (...size) => {
      const [shapeX, shapeY] = shapes(size, t) as [number[], number[]]
      const [x, y] = [randomTensor(device, shapeX, 1), randomTensor(device, shapeY, 2)]
      const [arrayX, arrayY] = [
        { shape: shapeX, data: x.data },
        { shape: shapeY, data: y.data },
      ]
      const wanted = reference.matmul(arrayX, arrayY, t)
      const out = ops.matmul(x.tensor, y.tensor, t)
      expect(out.shape).toEqual(wanted.shape)
      expectClose('out', await out.data(), wanted.data, 2e-6)

      const dOut = randomTensor(device, out.shape, 3)
      const { dx, dy } = ops.matmulBackward(dOut.tensor, x.tensor, y.tensor, t)
      const gradients = reference.matmulBackward(dOut.data, arrayX, arrayY, t)
      expect([dx.shape, dy.shape]).toEqual([shapeX, shapeY])
      expectClose('dx', await dx.data(), gradients.dx, 2e-6)
      expectClose('dy', await dy.data(), gradients.dy, 2e-6)
    })

    test.each<DType>(['float16', 'bfloat16'])('%s operands, float32 results', async (dtype) => {
      for (const size of [sizes[2]!, sizes[8]!, [33, 34, 40, [2], [2]] as (typeof sizes)[number]]) {
        const [shapeX, shapeY] = shapes(size, t) as [number[], number[]]
        const x = await randomTensorOf(device, shapeX, 1, dtype)
        const y = await randomTensorOf(device, shapeY, 2, dtype)
        const [arrayX, arrayY] = [
          { shape: shapeX, data: x.data },
          { shape: shapeY, data: y.data },
        ]
        const out = ops.matmul(x.tensor, y.tensor, t)
        expect(out.dtype).toBe('float32')
        const wanted = reference.matmul(arrayX, arrayY, t)
        expectClose('out', await out.data(), wanted.data, 2e-6)
        const dOut = randomTensor(device, out.shape, 3)
        const { dx, dy } = ops.matmulBackward(dOut.tensor, x.tensor, y.tensor, t)
        const gradients = reference.matmulBackward(dOut.data, arrayX, arrayY, t)
        expectClose('dx', await dx.data(), gradients.dx, 2e-6)
        expectClose('dy', await dy.data(), gradients.dy, 2e-6)
      }
    })

    test('the gradients equal finite differences', async () => {
      const [shapeX, shapeY] = shapes([2, 3, 4, [2, 1], [3]], t) as [number[], number[]]
      const [x, y] = [randomTensor(device, shapeX, 4), randomTensor(device, shapeY, 5)]
      const dOut = randomTensor(device, [2, 3, 2, 3], 6)
      const { dx, dy } = ops.matmulBackward(dOut.tensor, x.tensor, y.tensor, t)
      const loss = (dataX: ArrayLike<number>, dataY: ArrayLike<number>) => {
        const [arrayX, arrayY] = [
          { shape: shapeX, data: dataX },
          { shape: shapeY, data: dataY },
        ]
        return dot(dOut.data, reference.matmul(arrayX, arrayY, t).data)
      }
      expectGradient('dx', await dx.data(), (v) => loss(v, y.data), x.data)
      expectGradient('dy', await dy.data(), (v) => loss(x.data, v), y.data)
    })
  })

  test('x by the rows of weights is linear without a bias', async () => {
    const x = randomTensor(device, [2, 15, 12], 1).tensor
    const weight = randomTensor(device, [7, 12], 2).tensor
    const y = ops.matmul(x, weight, { transposeY: true })
    const rows = ops.linear(x.reshape([30, 12]), weight)
    expect(await y.data()).toEqual(await rows.data())
  })

  test('a matrix of a batch has the bits of its own product', async () => {
    const x = randomTensor(device, [3, 20, 33], 1).tensor
    const y = randomTensor(device, [3, 33, 18], 2).tensor
    const all = await ops.matmul(x, y).data()
    for (let b = 0; b < 3; b++) {
      const [one, other] = [x.rows(b, b + 1), y.rows(b, b + 1)]
      const wanted = await ops.matmul(one, other).data()
      expectClose(`matrix ${b}`, all.subarray(b * 360, (b + 1) * 360), wanted, 1e-6)
    }
  })

  test('only the gradients in `needs` are computed', async () => {
    const [x, y] = [device.normal([2, 3], { seed: 1 }), device.normal([3, 4], { seed: 2 })]
    const dOut = device.normal([2, 4], { seed: 3 })
    expect(Object.keys(ops.matmulBackward(dOut, x, y, { needs: { y: false } }))).toEqual(['dx'])
    expect(Object.keys(ops.matmulBackward(dOut, x, y, { needs: { x: false } }))).toEqual(['dy'])
  })

  test('empty axes: a sum of nothing is 0, no rows are no rows', async () => {
    const zeros = await ops.matmul(device.zeros([2, 3, 0]), device.zeros([0, 4])).data()
    expect(zeros).toEqual(new Float32Array(24))
    expect(ops.matmul(device.zeros([0, 3, 2]), device.zeros([2, 4])).shape).toEqual([0, 3, 4])
    expect(ops.matmul(device.zeros([3, 2]), device.zeros([2, 0])).shape).toEqual([3, 0])
    const x = device.normal([3, 2], { seed: 1 })
    const none = ops.matmulBackward(device.zeros([0, 3, 4]), x, device.zeros([0, 2, 4]))
    expect(await none.dx.data()).toEqual(new Float32Array(6))
    expect(none.dy.shape).toEqual([0, 2, 4])
    const summed = ops.matmulBackward(device.zeros([3, 0]), x, device.zeros([2, 0]))
    expect(await summed.dx.data()).toEqual(new Float32Array(6))
  })

  test('NaN stays in its row and its matrix', async () => {
    const x = randomTensor(device, [2, 20, 9], 1)
    x.data[9 * 25] = Number.NaN
    const y = randomTensor(device, [2, 9, 33], 2).tensor
    const out = await ops.matmul(device.tensor(x.data, [2, 20, 9]), y).data()
    for (let r = 0; r < 40; r++)
      expect(out.slice(r * 33, (r + 1) * 33).every(r === 25 ? Number.isNaN : Number.isFinite)).toBe(
        true,
      )
  })

  test('shapes and dtypes are checked', async () => {
    const x = device.zeros([2, 3])
    const message = await errorOf('ERR_SHAPE', () => ops.matmul(x, device.zeros([4, 5])))
    expect(message).toContain('"y" must have size 3 in axis -2')
    await errorOf('ERR_SHAPE', () => ops.matmul(x, device.zeros([3, 5]), { transposeY: true }))
    expect(await errorOf('ERR_SHAPE', () => ops.matmul(x, device.zeros([3])))).toContain('Reshape')
    await errorOf('ERR_SHAPE', () => ops.matmul(device.zeros([2, 2, 3]), device.zeros([3, 3, 5])))
    await errorOf('ERR_DTYPE', () => ops.matmul(x, device.zeros([3, 5], 'float16')))
    await errorOf('ERR_DTYPE', () => ops.matmul(x.to('int8' as never), device.zeros([3, 5])))
    await errorOf('ERR_VALUE', () =>
      ops.matmul(x, device.zeros([3, 5]), { transposeX: 1 as never }),
    )
    const y = device.zeros([3, 4])
    await errorOf('ERR_SHAPE', () => ops.matmulBackward(device.zeros([2, 3]), x, y))
    await errorOf('ERR_DTYPE', () => ops.matmulBackward(device.zeros([2, 4], 'float16'), x, y))
  })
})

// Many products; few rows, and several blocks of rows, of columns and of the inner dimension.
test.each([
  [
    [20, 9, 700],
    [20, 700, 30],
  ],
  [
    [2, 5, 1100],
    [2, 1100, 20],
  ],
  [
    [2, 90, 40],
    [2, 40, 600],
  ],
  [
    [2, 3, 400],
    [2, 400, 600],
  ],
  [
    [2, 250, 330],
    [2, 330, 40],
  ],
] as const)('%j by %j: the reference, and the same bits for every thread count', async (a, b) => {
  const [x, y] = [uniform(a[0] * a[1] * a[2], 1), uniform(b[0] * b[1] * b[2], 2)]
  const turned = { transposeX: true, transposeY: true }
  const bits = async (threads: number) => {
    const device = openDevice('cpu', { threads })
    const [tensorX, tensorY] = [device.tensor(x, a), device.tensor(y, b)]
    const out = ops.matmul(tensorX, tensorY)
    const shared = ops.matmulBackward(out, tensorX, tensorY.rows(0, 1))
    // y^T x^T, which is the transpose of x y
    const transposed = ops.matmul(tensorY, tensorX, turned)
    return Promise.all([out, transposed, shared.dx, shared.dy].map((t) => t.data()))
  }
  const [wanted, ...rest] = await Promise.all([1, 2, 3].map(bits))
  for (const others of rest)
    for (const [i, found] of others.entries())
      expect(Buffer.from(found.buffer).equals(Buffer.from(wanted![i]!.buffer))).toBe(true)
  const [B, M, K, N] = [...a, b[2]]
  const [out, transposed] = wanted!
  for (let batch = 0; batch < B; batch++)
    for (let m = 0; m < M; m += 2)
      for (let n = 0; n < N; n += 7) {
        let sum = 0
        for (let k = 0; k < K; k++) sum += x[(batch * M + m) * K + k]! * y[(batch * K + k) * N + n]!
        const at = [out![(batch * M + m) * N + n]!, transposed![(batch * N + n) * M + m]!]
        expectClose(`${batch}, ${m}, ${n}`, at, [sum, sum], 2e-6, Math.sqrt(K))
      }
})
