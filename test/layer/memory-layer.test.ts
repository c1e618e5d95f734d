import { describe, expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import { AdamW, MemoryLayer, openDevice } from '../../lib/index.js'
import { testDevices } from '../support/devices.js'
import { small, valuesOf } from '../support/layers.js'
import { rowsOf } from '../support/rows.js'

describe.each(testDevices)('on %s', (name) => {
  const device = openDevice(name)
  const x = () => device.normal([5, 12], { seed: 1 })
  const dy = () => device.normal([5, 12], { seed: 2 })

  test('forward and infer agree, in the shape of the input', async () => {
    const layer = new MemoryLayer(device, small)
    const input = x()
    const { output } = layer.forward(input)
    const y = await output.data()
    expect(output.shape).toEqual([5, 12])
    expect(await layer.infer(input).data()).toEqual(y)
    const batch = layer.infer(input.reshape([1, 5, 12]))
    expect(batch.shape).toEqual([1, 5, 12])
    expect(await batch.data()).toEqual(y)
  })

  test('arrays of numbers are taken as input', async () => {
    const layer = new MemoryLayer(device, small)
    const numbers = await x().data()
    const wanted = await layer.infer(x()).data()
    for (const data of [numbers, Float64Array.from(numbers), Array.from(numbers)])
      expect(await layer.infer(data).data()).toEqual(wanted)
  })

  test('a context has the lookup: for each head k slots whose weights sum to 1', async () => {
    const layer = new MemoryLayer(device, small)
    const { indices, weights } = layer.forward(x()).context.lookup()
    expect(indices.shape).toEqual([5, 2, 4])
    for (const head of rowsOf(Array.from(await weights.data()), 4))
      expect(head.reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 5)
  })

  test('the same seed gives the same layer, and another seed another', async () => {
    const make = (seed: number) =>
      valuesOf(new MemoryLayer(device, { ...small, seed }).parameters())
    expect(await make(3)).toEqual(await make(3))
    expect(await make(4)).not.toEqual(await make(3))
  })

  test('k may exceed n, and even n*n: the rest is padding', async () => {
    const layer = new MemoryLayer(device, { ...small, nKeys: 2, knn: 7 })
    const { output, context } = layer.forward(x())
    for (const slots of rowsOf(Array.from(await context.lookup().indices.data()), 7))
      expect(slots.filter((slot) => slot === -1)).toHaveLength(7 - 2 * 2)
    expect((await output.data()).every(Number.isFinite)).toBe(true)
    expect((await layer.backward(context, dy()).data()).every(Number.isFinite)).toBe(true)
  })

  test('NaN in one token makes that token NaN and no other', async () => {
    const layer = new MemoryLayer(device, small)
    const input = (await x().data()) as Float32Array
    const clean = rowsOf(await layer.infer(input).data(), 12)
    input[2 * 12 + 3] = Number.NaN
    const y = rowsOf(await layer.infer(input).data(), 12)
    for (const [t, row] of y.entries()) {
      if (t === 2) expect(Array.from(row).every(Number.isNaN)).toBe(true)
      else expect(row).toEqual(clean[t])
    }
  })

  test('no tokens at all', async () => {
    const layer = new MemoryLayer(device, small)
    const { output, context } = layer.forward(device.zeros([0, 12]))
    expect(output.shape).toEqual([0, 12])
    expect(layer.backward(context, device.zeros([0, 12])).shape).toEqual([0, 12])
    expect((await layer.values.gradient().data()).rows.length).toBe(0)
    new AdamW(layer.parameters(), { lr: 1e-3 }).step()
    await device.synchronize()
  })

  test.runIf(device.kind === 'cpu')(
    'the results do not depend on the number of threads',
    async () => {
      const run = async (threads: number) => {
        const cpu = openDevice(name, { threads })
        const layer = new MemoryLayer(cpu, {
          ...small,
          inputDim: 96,
          keyDim: 48,
          nKeys: 40,
          outputGate: true,
          queryNorm: 'rms',
        })
        const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
        for (let step = 0; step < 3; step++) {
          const { context } = layer.forward(cpu.normal([333, 96], { seed: step }))
          layer.backward(context, cpu.normal([333, 96], { seed: 50 + step }))
          optimizer.step()
          optimizer.zeroGrad()
        }
        return valuesOf(layer.parameters())
      }
      const wanted = await run(1)
      for (const threads of [2, 3, 5]) expect(await run(threads)).toEqual(wanted)
    },
  )

  test('one crossing for each of forward, backward, step, zeroGrad and infer', () => {
    const layer = new MemoryLayer(device, small)
    const optimizer = new AdamW(layer.parameters(), { lr: 1e-3 })
    const [input, gradient] = [x(), dy()]
    const crossings = (f: () => void) => {
      const before = native.crossings()
      f()
      return native.crossings() - before - 1 // reading the counter is a crossing too
    }
    let context!: ReturnType<typeof layer.forward>['context']
    expect(
      crossings(() => {
        context = layer.forward(input).context
      }),
    ).toBe(1)
    expect(crossings(() => layer.backward(context, gradient))).toBe(1)
    expect(crossings(() => optimizer.step())).toBe(1)
    expect(crossings(() => optimizer.zeroGrad())).toBe(1)
    expect(crossings(() => layer.infer(input))).toBe(1)
  })
})
