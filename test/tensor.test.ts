import { describe, expect, test } from 'vitest'
import { openDevice, Tensor } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'

onEveryDevice((device) => {
  describe('device.tensor', () => {
    test('takes typed arrays and numbers, with the dtype of the array', async () => {
      const cases: [Parameters<typeof device.tensor>[0], string, number[]][] = [
        [new Float32Array([1, 2, 3]), 'float32', [1, 2, 3]],
        [[1.5, -2], 'float32', [1.5, -2]],
        [new Float64Array([0.1]), 'float32', [Math.fround(0.1)]],
        [new Int32Array([-1, 2 ** 31 - 1]), 'int32', [-1, 2 ** 31 - 1]],
        [new Int8Array([-128, 127]), 'int8', [-128, 127]],
        [new Uint8Array([0, 255]), 'uint8', [0, 255]],
      ]
      for (const [data, dtype, values] of cases) {
        const t = device.tensor(data)
        expect(t.dtype).toBe(dtype)
        expect(t.shape).toEqual([values.length])
        expect(Array.from(await t.data())).toEqual(values)
        expect(Array.from(t.dataSync())).toEqual(values)
      }
    })

    test('rounds to nearest even 16-bit floats, and takes Uint16Array as bits', async () => {
      const x = [1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -0, 65504, 1e-7, Number.NaN, Infinity]
      expect(Array.from(await device.tensor(x, undefined, 'bfloat16').bits()).slice(0, 4)).toEqual([
        0x3f80, 0x3f80, 0x3f82, 0x8000,
      ])
      const half = Array.from(await device.tensor(x, undefined, 'float16').bits())
      expect(half[0]).toBe(0x3c00)
      expect(half[4]).toBe(0x7bff)
      expect(half[5]).toBe(2) // 1e-7 is 1.68 of the smallest subnormal
      expect(half[6]! & 0x7c00).toBe(0x7c00)
      expect(half[6]! & 0x3ff).not.toBe(0)
      expect(half[7]).toBe(0x7c00)
      const bits = new Uint16Array([0x3c00, 0x7bff, 0x0001])
      const tensor = device.tensor(bits, [3], 'float16')
      expect(await tensor.bits()).toEqual(bits)
      expect(await tensor.data()).toEqual(Float32Array.of(1, 65504, 2 ** -24))
      expect(tensor.dataSync()).toEqual(await tensor.data())
      expect(Array.from(await device.tensor(bits, [3], 'float16').to('float32').data())).toEqual([
        1,
        65504,
        2 ** -24,
      ])
    })

    test('every 16-bit pattern survives the conversion to float32 and back', async () => {
      const bits = Uint16Array.from({ length: 65536 }, (_, i) => i)
      for (const dtype of ['float16', 'bfloat16'] as const) {
        const isNaN16 = (b: number) =>
          dtype === 'float16' ? (b & 0x7fff) > 0x7c00 : (b & 0x7fff) > 0x7f80
        const back = await device.tensor(bits, undefined, dtype).to('float32').to(dtype).bits()
        const wrong = bits.filter((b) => (isNaN16(b) ? !isNaN16(back[b]!) : back[b] !== b))
        expect(Array.from(wrong)).toEqual([])
      }
    })

    test('checks data, shape and dtype', async () => {
      await errorOf('ERR_SHAPE', () => device.tensor([1, 2, 3], [2, 2]))
      await errorOf('ERR_SHAPE', () => device.tensor([1], [-1]))
      await errorOf('ERR_SHAPE', () => device.empty([1.5]))
      await errorOf('ERR_DTYPE', () => device.tensor('abc' as never))
      await errorOf('ERR_DTYPE', () => device.tensor(new DataView(new ArrayBuffer(4)) as never))
      await errorOf('ERR_DTYPE', () => device.tensor([1], [1], 'float64' as never))
      await errorOf('ERR_DTYPE', () => device.tensor(new BigInt64Array(1) as never, [1], 'int32'))
      await errorOf('ERR_DTYPE', () => device.tensor(new Uint16Array(2)))
      await errorOf('ERR_VALUE', () => device.tensor([1.5], [1], 'int32'))
      await errorOf('ERR_VALUE', () => device.tensor([300], [1], 'uint8'))
      await errorOf('ERR_VALUE', () => device.tensor([1, 'x'] as never))
    })
  })

  test('write and data happen in the order of their calls', async () => {
    const t = device.tensor([1, 2, 3])
    const before = t.data()
    t.write([4, 5, 6])
    const source = new Float32Array([7, 8, 9])
    const between = t.data()
    t.write(source)
    source.fill(0)
    expect(Array.from(await before)).toEqual([1, 2, 3])
    expect(Array.from(await between)).toEqual([4, 5, 6])
    expect(Array.from(await t.data())).toEqual([7, 8, 9])
    await errorOf('ERR_SHAPE', () => t.write([1]))
  })

  test('reshape and rows share memory and outlive their source', async () => {
    const t = device.tensor([1, 2, 3, 4, 5, 6], [3, 2])
    const r = t.reshape([2, 3])
    const rows = t.rows(1, 3)
    t.dispose()
    expect(r.shape).toEqual([2, 3])
    expect(Array.from(await rows.data())).toEqual([3, 4, 5, 6])
    rows.write([0, 0, 0, 0])
    expect(Array.from(await r.data())).toEqual([1, 2, 0, 0, 0, 0])
    await errorOf('ERR_SHAPE', () => r.reshape([4]))
    await errorOf('ERR_VALUE', () => r.rows(1, 3))
    await errorOf('ERR_VALUE', () => r.rows(-1, 1))
  })

  test('to() copies between devices, in the order of both', async () => {
    const other = openDevice('cpu', { threads: 1 })
    const t = device.normal([100_000], { seed: 3 })
    const copy = t.to(other)
    t.write(new Float32Array(100_000))
    const again = device.normal([100_000], { seed: 3 })
    expect(copy.device).toBe(other)
    expect(await copy.data()).toEqual(await again.data())
    await errorOf('ERR_DEVICE_MISMATCH', () => copy.copyFrom(t))
  })

  test('to() and copyFrom() check their arguments', async () => {
    const t = device.zeros([100])
    for (const target of [null, undefined, 5, {}])
      await errorOf('ERR_DEVICE', () => t.to(target as never))
    expect(await errorOf('ERR_DTYPE', () => t.to('int32'))).toMatch(/^Tensor\.to: "dtype"/)
    const shape = await errorOf('ERR_SHAPE', () => t.copyFrom(t.rows(0, 2)))
    expect(shape).toMatch(/^Tensor\.copyFrom: "other" .*\[100\].*\[2\]/)
    const dtype = await errorOf('ERR_DTYPE', () => t.copyFrom(device.zeros([100], 'int32')))
    expect(dtype).toMatch(/^Tensor\.copyFrom: "other"/)
  })

  test('dispose is idempotent; a use after it names tensor and operation', async () => {
    const t = device.tensor([1, 2])
    t.dispose()
    t.dispose()
    expect(t.disposed).toBe(true)
    expect(await errorOf('ERR_DISPOSED', () => t.data())).toMatch(/Tensor\.data.*\[2\]/)
    await errorOf('ERR_DISPOSED', () => t.dataSync())
    await errorOf('ERR_DISPOSED', () => t.write([1, 2]))
    let outer: Tensor
    {
      using inner = device.tensor([1])
      outer = inner
    }
    expect(outer.disposed).toBe(true)
  })

  describe('random fill', () => {
    test('the same bits for a seed on every device, and others for another seed', async () => {
      const one = await device.normal([1001], { seed: 5 }).data()
      for (const dtype of ['float32', 'float16', 'bfloat16'] as const) {
        const cpu = openDevice('cpu', { threads: 1 })
        expect(await device.normal([1001], { seed: 5, dtype }).data()).toEqual(
          await cpu.normal([1001], { seed: 5, dtype }).data(),
        )
        expect(await device.uniform([70], { seed: 4, low: -3, dtype }).data()).toEqual(
          await cpu.uniform([70], { seed: 4, low: -3, dtype }).data(),
        )
      }
      expect(await device.normal([1001], { seed: 6 }).data()).not.toEqual(one)
      expect((await device.normal([2002], { seed: 5 }).data()).slice(0, 1001)).toEqual(one)
    })

    test('normal and uniform have their moments', async () => {
      const n = 400_000
      const z = (await device.normal([n], { seed: 7, mean: 2, std: 3 }).data()) as Float32Array
      const mean = z.reduce((a, b) => a + b, 0) / n
      const moment = (p: number) => z.reduce((a, b) => a + ((b - mean) / 3) ** p, 0) / n
      expect(Math.abs(mean - 2)).toBeLessThan((4 * 3) / Math.sqrt(n))
      expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n))
      expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n))
      const u = (await device.uniform([n], { seed: 8, low: -1, high: 3 }).data()) as Float32Array
      expect(Math.min(...u.slice(0, 100_000))).toBeGreaterThanOrEqual(-1)
      expect(Math.max(...u.slice(0, 100_000))).toBeLessThan(3)
      expect(Math.abs(u.reduce((a, b) => a + b, 0) / n - 1)).toBeLessThan(
        (4 * 4) / Math.sqrt(12 * n),
      )
    })

    test('options are checked', async () => {
      await errorOf('ERR_VALUE', () => device.normal([2], { seed: -1 }))
      await errorOf('ERR_VALUE', () => device.normal([2], {} as never))
      await errorOf('ERR_VALUE', () => device.normal([2], { seed: 1, std: Number.NaN }))
      await errorOf('ERR_DTYPE', () => device.normal([2], { seed: 1, dtype: 'int32' }))
      expect(
        await errorOf('ERR_OPTION', () => device.uniform([2], { seed: 1, hig: 2 } as never)),
      ).toMatch(/"high"/)
    })
  })

  test('empty tensors', async () => {
    const t = device.zeros([0, 4])
    expect(t.size).toBe(0)
    expect((await t.data()).length).toBe(0)
    expect(t instanceof Tensor).toBe(true)
  })
})
