// What the compiler knows of a tensor's dtype; `tsc` checks this file.

import { expectTypeOf, test } from 'vitest'
import { type DType, MemoryLayer, openDevice, ops, type Tensor } from '../lib/index.js'

const device = openDevice('cpu')

test('data() and bits() have the array of the dtype', async () => {
  const int32 = device.tensor(new Int32Array([1, 2]))
  expectTypeOf(int32).toEqualTypeOf<Tensor<'int32'>>()
  expectTypeOf(await int32.data()).toEqualTypeOf<Int32Array>()
  expectTypeOf(int32.dataSync()).toEqualTypeOf<Int32Array>()
  const half = device.zeros([2], 'bfloat16')
  expectTypeOf(await half.data()).toEqualTypeOf<Float32Array>()
  expectTypeOf(await half.bits()).toEqualTypeOf<Uint16Array>()
  expectTypeOf(await device.tensor([1]).bits()).toEqualTypeOf<Float32Array>()
  const some: Tensor = int32
  expectTypeOf(await some.data()).toEqualTypeOf<
    Float32Array | Int32Array | Int8Array | Uint8Array
  >()
})

test('factories give the dtype of the data, or the one that is named', () => {
  expectTypeOf(device.tensor([1, 2])).toEqualTypeOf<Tensor<'float32'>>()
  expectTypeOf(device.tensor(new Float64Array(1))).toEqualTypeOf<Tensor<'float32'>>()
  expectTypeOf(device.tensor(new Int8Array(1))).toEqualTypeOf<Tensor<'int8'>>()
  expectTypeOf(device.tensor(new Uint8ClampedArray(1))).toEqualTypeOf<Tensor<'uint8'>>()
  expectTypeOf(device.tensor([1], [1], 'float16')).toEqualTypeOf<Tensor<'float16'>>()
  expectTypeOf(device.empty([1])).toEqualTypeOf<Tensor<'float32'>>()
  expectTypeOf(device.normal([1], { seed: 1 })).toEqualTypeOf<Tensor<'float32'>>()
  const dtype = 'bfloat16' as const
  expectTypeOf(device.normal([1], { seed: 1, dtype })).toEqualTypeOf<Tensor<'bfloat16'>>()
  const any = 'int8' as DType
  expectTypeOf(device.zeros([1], any)).toEqualTypeOf<Tensor>()
})

test('views, copies, operations and layers keep or name it', () => {
  const x = device.tensor(new Int32Array(4), [2, 2])
  expectTypeOf(x.reshape([4])).toEqualTypeOf<Tensor<'int32'>>()
  expectTypeOf(x.rows(0, 1)).toEqualTypeOf<Tensor<'int32'>>()
  expectTypeOf(x.to(device)).toEqualTypeOf<Tensor<'int32'>>()
  const row = device.zeros([1, 4])
  expectTypeOf(row.to('float16')).toEqualTypeOf<Tensor<'float16'>>()
  const { values, indices } = ops.topK(row, 1)
  expectTypeOf(values).toEqualTypeOf<Tensor<'float32'>>()
  expectTypeOf(indices).toEqualTypeOf<Tensor<'int32'>>()
  const layer = new MemoryLayer(device, { inputDim: 4, heads: 1, knn: 1, nKeys: 2, keyDim: 2 })
  expectTypeOf(layer.infer(row)).toEqualTypeOf<Tensor<'float32'>>()
})
