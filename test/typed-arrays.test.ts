// Typed arrays are what their memory is, of whatever realm: subclassed, shared, resized, forged.

import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { MemoryLayer, ops, type TypedArray } from '../lib/index.js'
import { CharacterTokenizer, Embedding, Linear, TextDataset, Transformer } from '../lib/nn/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'

const foreign = <T>(code: string): T => runInNewContext(code) as T
const kinds = [
  ['Float32Array', 'float32', [1.5, -2]],
  ['Float64Array', 'float32', [1.5, -2]],
  ['Int32Array', 'int32', [1, -2]],
  ['Int8Array', 'int8', [1, -2]],
  ['Uint8Array', 'uint8', [1, 254]],
  ['Uint8ClampedArray', 'uint8', [1, 254]],
  ['Int16Array', 'float32', [1, -2]],
  ['Uint32Array', 'float32', [1, 2]],
] as const

onEveryDevice((device) => {
  describe.each(kinds)('%s of another realm', (name, dtype, values) => {
    const data = () => foreign<TypedArray>(`new ${name}([${values}])`)

    test('makes a tensor of its dtype, and is written as it is', async () => {
      const made = device.tensor(data())
      expect(made.dtype).toBe(dtype)
      expect(Array.from(await made.data())).toEqual(values)
      expect(Array.from(await device.zeros([2], dtype).write(data()).data())).toEqual(values)
    })
  })

  test('arrays of another realm hold numbers, its Uint16Array bits', async () => {
    const made = device.tensor(foreign<number[]>('[1, 2]'), foreign<number[]>('[2, 1]'), 'int32')
    expect(await made.data()).toEqual(Int32Array.of(1, 2))
    for (const [dtype, one] of [
      ['bfloat16', 0x3f80],
      ['float16', 0x3c00],
    ] as const) {
      const bits = foreign<Uint16Array>(`new Uint16Array([${one}])`)
      const t = device.tensor(bits, [1], dtype)
      expect(await t.data()).toEqual(Float32Array.of(1))
      expect(await device.zeros([1], dtype).write(bits).bits()).toEqual(Uint16Array.of(one))
      await errorOf('ERR_DTYPE', () => device.tensor(bits))
    }
  })

  test('models and data take the elements that are there, whatever a subclass says', async () => {
    class Odd extends Int32Array {
      override get length() {
        return 99
      }
      override every() {
        return true
      }
      override [Symbol.iterator]() {
        return [7].values()
      }
    }
    const odd = () => new Odd([1, 2, 0]) as Int32Array
    const options = { vocabSize: 8, dim: 4, layers: 1, heads: 1, contextLength: 8 }
    const model = new Transformer(device, { ...options, feedForward: { kind: 'none' } })
    const own = [1, 2, 0]
    expect(await model.apply(odd()).data()).toEqual(await model.apply(own).data())
    expect(await model.loss(odd(), odd()).data()).toEqual(await model.loss(own, own).data())
    const first = async (prompt: Int32Array | number[]) =>
      (await model.generate(prompt, { maxTokens: 1, seed: 1 }).next()).value
    expect(await first(odd())).toBe(await first(own))
    const { tokens } = new TextDataset(odd(), { device, contextLength: 1 })
    expect(tokens).toEqual(Int32Array.from(own))
    expect(new CharacterTokenizer('abc').decode(odd())).toBe('bca')
  })

  test('an array of numbers whose getter disposes the tensor is not written to it', async () => {
    const tensor = device.zeros([1])
    const data = Object.defineProperty([1], 0, {
      get() {
        tensor.dispose()
        return 1
      },
    })
    expect(await errorOf('ERR_DISPOSED', () => tensor.write(data))).toContain(
      'Tensor.write: "this"',
    )
  })

  test('layers and operations take them, too', async () => {
    const x = foreign<Float32Array>('new Float32Array([1, 2, 3, 4])')
    const own = Float32Array.of(1, 2, 3, 4)
    const layer = new MemoryLayer(device, { inputDim: 4, heads: 1, knn: 2, nKeys: 4, keyDim: 4 })
    expect(await layer.infer(x).data()).toEqual(await layer.infer(own).data())
    const linear = new Linear(device, { inputDim: 4, outputDim: 2 })
    expect(await linear.infer(x).data()).toEqual(await linear.infer(own).data())
    const indices = foreign<Int32Array>('new Int32Array([1, 0])')
    const embedding = new Embedding(device, { count: 3, dim: 2 })
    expect(await embedding.infer(indices).data()).toEqual(await embedding.infer([1, 0]).data())
    const y = ops.embeddingBag(
      device.tensor([1, 2], [2, 1]),
      indices,
      device.tensor([1, 1], [2, 1]),
    )
    expect(await y.data()).toEqual(Float32Array.of(2, 1))
    await errorOf('ERR_INDEX_RANGE', () => embedding.forward(foreign('new Int32Array([3])')))
  })

  test('subclasses and Buffers are read as the arrays that they are', async () => {
    class Longer extends Float32Array {
      override get length(): number {
        return 1000
      }
      override get [Symbol.toStringTag](): never {
        return 'Int32Array' as never
      }
    }
    expect(await device.tensor(new Longer([1, 2])).data()).toEqual(Float32Array.of(1, 2))
    expect(await device.tensor(Buffer.from([1, 255])).data()).toEqual(Uint8Array.of(1, 255))
  })

  test('shared memory is copied at the call', async () => {
    const shared = new Int32Array(new SharedArrayBuffer(12), 4).fill(7)
    const t = device.tensor(shared)
    shared.fill(8)
    expect(await t.data()).toEqual(Int32Array.of(7, 7))
    expect(await t.write(shared).data()).toEqual(Int32Array.of(8, 8))
    const bits = new Uint16Array(new SharedArrayBuffer(2)).fill(0x3f80)
    expect(await device.tensor(bits, [1], 'bfloat16').data()).toEqual(Float32Array.of(1))
  })

  test('a resizable array counts as long as it is; without its memory it is refused', async () => {
    const Resizable = ArrayBuffer as unknown as new (
      bytes: number,
      options: object,
    ) => ArrayBuffer & { resize(bytes: number): void }
    const buffer = new Resizable(8, { maxByteLength: 16 })
    const tracking = new Float32Array(buffer).fill(1)
    const fixed = new Float32Array(buffer, 4, 1)
    buffer.resize(12)
    expect(await device.tensor(tracking).data()).toEqual(Float32Array.of(1, 1, 0))
    buffer.resize(4)
    expect(await device.tensor(tracking).data()).toEqual(Float32Array.of(1))
    await errorOf('ERR_VALUE', () => device.tensor(fixed))
    const gone = new Float32Array(2)
    structuredClone(gone, { transfer: [gone.buffer] })
    expect(await errorOf('ERR_VALUE', () => device.tensor(gone))).toContain('detached Float32Array')
    await errorOf('ERR_VALUE', () => device.zeros([0]).write(gone))
    expect((await device.tensor(new Float32Array(0)).data()).length).toBe(0)
  })

  test('what is no array of numbers is refused', async () => {
    const lies = [
      foreign('new DataView(new ArrayBuffer(8))'),
      foreign('new BigInt64Array(2)'),
      new BigUint64Array(1),
      { length: 2, 0: 1, 1: 2 },
      { [Symbol.toStringTag]: 'Float32Array', length: 1, 0: 1 },
      Object.create(Float32Array.prototype),
      new Proxy(new Float32Array(1), {}),
      new Set([1]),
      'ab',
      null,
      5,
      5n,
      new ArrayBuffer(4),
    ]
    for (const lie of lies) await errorOf('ERR_DTYPE', () => device.tensor(lie as never))
    const sparse: number[] = [1]
    sparse[2] = 3
    const numbers = [sparse, [1n], [null], ['1'], [[1]], [true], [new Number(1)], [Symbol('s')]]
    for (const wrong of numbers) await errorOf('ERR_VALUE', () => device.tensor(wrong as never))
    for (const [value, dtype] of [
      [Number.NaN, 'int32'],
      [0.5, 'int8'],
      [2 ** 31, 'int32'],
      [-129, 'int8'],
      [-1, 'uint8'],
    ] as const)
      await errorOf('ERR_VALUE', () => device.zeros([1], dtype).write([value]))
  })

  test('data of a Float16Array, where the runtime has them', async () => {
    const Float16Array = Reflect.get(globalThis, 'Float16Array')
    if (!Float16Array) return
    const t = device.tensor(new Float16Array([1, 65504]))
    expect(t.dtype).toBe('float16')
    expect(await t.bits()).toEqual(Uint16Array.of(0x3c00, 0x7bff))
    expect(await device.tensor(new Float16Array([1]), [1], 'float32').data()).toEqual(
      Float32Array.of(1),
    )
  })

  test('an error of the data itself passes through', () => {
    const mine = new Error('mine')
    const data = [1]
    Object.defineProperty(data, 0, {
      get() {
        throw mine
      },
    })
    expect(() => device.tensor(data)).toThrow(mine)
  })
})
