import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type DType, ops, type Tensor } from '../../lib/index.js'
import * as reference from '../reference/layout.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { integers, randomTensor } from '../support/random.js'

const dtypes = ['float32', 'float16', 'bfloat16', 'int32', 'int8', 'uint8'] as const

onEveryDevice((device) => {
  const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

  /** A tensor of small integers, which every dtype holds, and the integers. */
  function whole(shape: readonly number[], dtype: DType, seed: number) {
    const data = integers(size(shape), 0, 120, seed)
    return { tensor: device.tensor(data, shape, dtype), data, shape }
  }

  async function expectEqual(tensor: Tensor, wanted: reference.NdArray<number[]>): Promise<void> {
    expect(tensor.shape).toEqual(wanted.shape)
    expect(Array.from(await tensor.data(), Number)).toEqual(wanted.data)
  }

  const shapes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 })
  const runs = { numRuns: device.kind === 'cpu' ? 100 : 20 }

  test('permute is the reference, and its gradient brings it back', () =>
    fc.assert(
      fc.asyncProperty(
        shapes.chain((shape) =>
          fc.tuple(
            fc.constant(shape),
            fc.shuffledSubarray([...shape.keys()], { minLength: shape.length }),
          ),
        ),
        fc.constantFrom(...dtypes),
        fc.nat(1000),
        async ([shape, axes], dtype, seed) => {
          const x = whole(shape, dtype, seed)
          const y = ops.permute(x.tensor, axes)
          expect(y.dtype).toBe(dtype)
          await expectEqual(y, reference.permute(x, axes))
          const negative = axes.map((axis) => axis - shape.length)
          const back = ops.permuteBackward(y, negative)
          expect(await back.bits()).toEqual(await x.tensor.bits())
        },
      ),
      runs,
    ))

  test.each([
    [
      [70, 45],
      [1, 0],
    ],
    [
      [3, 40, 5, 33],
      [0, 2, 1, 3],
    ],
    [
      [2, 33, 65],
      [0, 2, 1],
    ],
    [
      [33, 2, 40],
      [2, 1, 0],
    ],
    [
      [5, 37, 4, 33],
      [0, 2, 3, 1],
    ],
    [
      [64, 64],
      [1, 0],
    ],
  ])('permute of %j by %j, larger than a tile', async (shape, axes) => {
    for (const dtype of ['float32', 'bfloat16', 'int8'] as const) {
      const x = whole(shape, dtype, 1)
      await expectEqual(ops.permute(x.tensor, axes), reference.permute(x, axes))
    }
  })

  test('slice and its gradient are the reference', () =>
    fc.assert(
      fc.asyncProperty(
        shapes.chain((shape) =>
          fc.tuple(
            fc.constant(shape),
            fc.tuple(...shape.map((n) => fc.tuple(fc.integer({ min: 0, max: n }), fc.nat(n)))),
          ),
        ),
        fc.constantFrom(...dtypes),
        fc.nat(1000),
        async ([shape, ranges], dtype, seed) => {
          const begin = ranges.map(([a, b]) => Math.min(a, b))
          const end = ranges.map(([a, b]) => Math.max(a, b))
          const boxed = begin.map((b, axis) => end[axis]! - b)
          const x = whole(shape, dtype, seed)
          const options = { begin, end: end.map((e, i) => (e === shape[i] ? undefined : e)) }
          await expectEqual(ops.slice(x.tensor, options), reference.slice(x, begin, boxed))
          const dy = whole(boxed, dtype, seed + 1)
          await expectEqual(
            ops.sliceBackward(dy.tensor, shape, options),
            reference.sliceBackward(dy, begin, shape),
          )
        },
      ),
      runs,
    ))

  test('slices count from the end, leave axes whole, and may be rows or columns', async () => {
    const x = whole([6, 40, 8], 'float32', 1)
    const cases: [ops.SliceOptions, number[], number[]][] = [
      [{ begin: [-2] }, [4, 0, 0], [2, 40, 8]],
      [{ end: [-5, undefined, -1] }, [0, 0, 0], [1, 40, 7]],
      [{ begin: [undefined, 4, 7] }, [0, 4, 7], [6, 36, 1]],
      [{ begin: [1, 8, 4], end: [5, 32] }, [1, 8, 4], [4, 24, 4]],
      [{}, [0, 0, 0], [6, 40, 8]],
    ]
    for (const [options, begin, shape] of cases)
      await expectEqual(ops.slice(x.tensor, options), reference.slice(x, begin, shape))
  })

  test('concat is the reference, and its gradients the slices', () =>
    fc.assert(
      fc.asyncProperty(
        shapes.chain((shape) => fc.tuple(fc.constant(shape), fc.nat(shape.length - 1))),
        fc.array(fc.nat(7), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(...dtypes),
        fc.nat(1000),
        async ([shape, axis], sizes, dtype, seed) => {
          const parts = sizes.map((n, i) =>
            whole(
              shape.map((length, a) => (a === axis ? n : length)),
              dtype,
              seed + i,
            ),
          )
          const tensors = parts.map((part) => part.tensor)
          const y = ops.concat(tensors, axis)
          await expectEqual(y, reference.concat(parts, axis))
          const back = ops.concatBackward(y, axis - shape.length, sizes)
          for (const [i, part] of parts.entries())
            await expectEqual(back[i]!, { data: Array.from(part.data), shape: part.shape })
        },
      ),
      runs,
    ))

  test('gradients equal finite differences', async () => {
    const x = randomTensor(device, [3, 4, 5], 1)
    const [begin, boxed, axes] = [
      [1, 0, 2],
      [2, 3, 2],
      [2, 0, 1],
    ]
    const options = { begin, end: [3, 3, 4] }
    const [dSlice, dPermute] = [randomTensor(device, boxed, 2), randomTensor(device, [5, 3, 4], 3)]
    const of = (data: ArrayLike<number>) => ({ data, shape: [3, 4, 5] })
    expectGradient(
      'slice',
      await ops.sliceBackward(dSlice.tensor, [3, 4, 5], options).data(),
      (v) => dot(dSlice.data, reference.slice(of(v), begin, boxed).data),
      x.data,
      1e-6,
    )
    expectGradient(
      'permute',
      await ops.permuteBackward(dPermute.tensor, axes).data(),
      (v) => dot(dPermute.data, reference.permute(of(v), axes).data),
      x.data,
      1e-6,
    )
    const other = of(randomTensor(device, [3, 4, 5], 4).data)
    const dy = randomTensor(device, [3, 8, 5], 5)
    const [dx, dOther] = ops.concatBackward(dy.tensor, 1, [4, 4])
    const joined = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      dot(dy.data, reference.concat([of(a), of(b)], 1).data)
    expectGradient('first', await dx!.data(), (v) => joined(v, other.data), x.data, 1e-6)
    expectGradient('second', await dOther!.data(), (v) => joined(x.data, v), other.data, 1e-6)
  })

  test('NaN bits, scalars and empty tensors pass', async () => {
    const nan = device.tensor([Number.NaN, 1, -0, Infinity], [2, 2])
    const turned = await ops.permute(nan, [1, 0]).data()
    expect(turned).toEqual(Float32Array.of(Number.NaN, -0, 1, Infinity))
    const scalar = device.tensor([4], [])
    expect(await ops.permute(scalar, []).data()).toEqual(Float32Array.of(4))
    expect(await ops.slice(scalar).data()).toEqual(Float32Array.of(4))
    const none = device.zeros([3, 0, 2])
    expect(ops.permute(none, [2, 1, 0]).shape).toEqual([2, 0, 3])
    expect(ops.slice(none, { begin: [1] }).shape).toEqual([2, 0, 2])
    expect(await ops.sliceBackward(none, [3, 1, 2], { end: [3, 0] }).data()).toEqual(
      new Float32Array(6),
    )
    expect(ops.concat([none, none], 0).shape).toEqual([6, 0, 2])
  })

  test('what is wrong is named', async () => {
    const x = device.zeros([2, 3])
    for (const axes of [[0], [0, 0], [0, 2], [0, 1, 2], [0.5, 1], 'x'])
      await errorOf('ERR_VALUE', () => ops.permute(x, axes as never))
    await errorOf('ERR_VALUE', () => ops.slice(x, { begin: [3] }))
    await errorOf('ERR_VALUE', () => ops.slice(x, { end: [-3] }))
    await errorOf('ERR_VALUE', () => ops.slice(x, { begin: [2], end: [1] }))
    await errorOf('ERR_VALUE', () => ops.slice(x, { begin: [0, 0, 0] }))
    await errorOf('ERR_SHAPE', () => ops.slice(x, { out: device.zeros([3, 2]) }))
    await errorOf('ERR_SHAPE', () => ops.sliceBackward(x, [2, 2]))
    await errorOf('ERR_VALUE', () => ops.concat([], 0))
    await errorOf('ERR_VALUE', () => ops.concat([x], 2))
    await errorOf('ERR_VALUE', () => ops.concat([device.tensor([1], [])], 0))
    await errorOf('ERR_SHAPE', () => ops.concat([x, device.zeros([2, 4])], 0))
    await errorOf('ERR_SHAPE', () => ops.concat([x, device.zeros([2])], 0))
    await errorOf('ERR_DTYPE', () => ops.concat([x, device.zeros([2, 3], 'int32') as never], 0))
    expect(await errorOf('ERR_DTYPE', () => ops.concat([x, 3 as never], 0))).toContain('tensors[1]')
    await errorOf('ERR_VALUE', () => ops.concatBackward(x, 0, [1, 2]))
  })
})
