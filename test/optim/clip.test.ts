import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { clipGradNorm, MemoryLayer, type Parameter } from '../../lib/index.js'
import { Embedding, Linear } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot } from '../support/finite-differences.js'
import { accumulate, gradientOf, small } from '../support/optimizer.js'

onEveryDevice((device) => {
  const normOf = async (parameters: readonly Parameter[], maxNorm: number) =>
    (await clipGradNorm(parameters, maxNorm).data())[0]!

  test('scales dense and table gradients by their common norm', async () => {
    const layer = new MemoryLayer(device, small)
    accumulate(layer, 1)
    accumulate(layer, 2)
    const gradients = async () => {
      const each = await Promise.all(layer.parameters().map(gradientOf))
      return each.flatMap((g) => Array.from(g))
    }
    const clip = (maxNorm: number) => normOf(layer.parameters(), maxNorm)
    const before = await gradients()
    const norm = Math.sqrt(dot(before, before))

    expect(await clip(norm * 2)).toBeCloseTo(norm, 3)
    expect(await gradients()).toEqual(before)

    expect(await clip(norm / 4)).toBeCloseTo(norm, 3)
    for (const [i, g] of (await gradients()).entries()) expect(g).toBeCloseTo(before[i]! / 4, 5)
  })

  /** The parameter whose gradient, dense or of a table, is these numbers as [4, 4]. */
  function gradient(kind: 'dense' | 'table', numbers: Float32Array) {
    if (kind === 'dense') {
      const linear = new Linear(device, { inputDim: 4, outputDim: 4, bias: false })
      const [weight] = linear.parameters()
      if (weight?.kind === 'dense') weight.grad.write(numbers)
      return linear.parameters()
    }
    const embedding = new Embedding(device, { count: 4, dim: 4 })
    const { context } = embedding.forward([0, 1, 2, 3])
    embedding.backward(context, device.tensor(numbers, [4, 4]))
    return embedding.parameters()
  }

  describe.each(['dense', 'table'] as const)('a %s gradient', (kind) => {
    test('of any size is scaled to the norm', async () => {
      const size = fc.double({ min: -40, max: 37.5, noNaN: true })
      await fc.assert(
        fc.asyncProperty(size, fc.constantFrom(0.5, 1e-3, 2), async (log10, ratio) => {
          const numbers = Float32Array.from(
            { length: 16 },
            (_, i) => (((i * 5) % 7) - 3) * 10 ** log10,
          )
          const norm = Math.sqrt(dot(numbers, numbers))
          const maxNorm = ratio * norm
          const factor = Math.min(1, maxNorm / (norm + 1e-6))
          const parameters = gradient(kind, numbers)
          expect(Math.abs((await normOf(parameters, maxNorm)) - norm)).toBeLessThan(
            1e-6 * norm + 3e-45,
          )
          const [clipped] = await Promise.all(parameters.map(gradientOf))
          for (const [i, g] of Array.from(clipped!).entries())
            expect(Math.abs(g - numbers[i]! * factor)).toBeLessThan(1e-6 * norm * factor + 3e-45)
        }),
        { numRuns: 25 },
      )
    })

    test.each([Number.NaN, Infinity])('with %s: the norm is that', async (bad) => {
      const parameters = gradient(
        kind,
        Float32Array.from({ length: 16 }, (_, i) => (i ? 1 : bad)),
      )
      expect(await normOf(parameters, 1)).toBe(bad)
    })
  })

  test('the factor is right where the norm itself is beyond float32', async () => {
    const parameters = gradient('dense', new Float32Array(16).fill(3e38))
    expect(await normOf(parameters, 1)).toBe(Infinity)
    const [clipped] = await Promise.all(parameters.map(gradientOf))
    for (const g of Array.from(clipped!)) expect(g).toBeCloseTo(0.25, 6)
  })

  test('maxNorm 0 makes every gradient 0; a negative one or NaN is refused', async () => {
    const parameters = gradient('dense', new Float32Array(16).fill(2))
    for (const bad of [-1, Number.NaN, Infinity, '1'])
      await errorOf('ERR_VALUE', () => clipGradNorm(parameters, bad as never))
    expect(await normOf(parameters, 0)).toBe(8)
    const [clipped] = await Promise.all(parameters.map(gradientOf))
    expect(Array.from(clipped!)).toEqual(new Array(16).fill(0))
  })

  describe("tables: 'apart'", () => {
    /** A memory layer and an embedding, whose rows clip with dense parameters. */
    function make() {
      const layer = new MemoryLayer(device, small)
      accumulate(layer, 1)
      accumulate(layer, 2)
      const embedding = new Embedding(device, { count: 4, dim: 4 })
      const { context } = embedding.forward([0, 3, 0])
      embedding.backward(context, device.normal([3, 4], { seed: 5 }))
      const dense = [
        ...layer.parameters().filter((p) => p.kind === 'dense'),
        ...embedding.parameters(),
      ]
      return { dense, tables: layer.parameters().filter((p) => p.kind === 'table') }
    }
    const gradientsOf = async (parameters: readonly Parameter[]) => {
      const each = await Promise.all(parameters.map(gradientOf))
      return each.map((g) => Array.from(g))
    }

    test('clips memory tables by their norm and the rest by its own', async () => {
      const { dense, tables } = make()
      const apart = make()
      const all = [...apart.tables, ...apart.dense]
      const norms = await clipGradNorm(all, 0.5, { tables: 'apart' }).data()
      const wanted = [await normOf(dense, 0.5), await normOf(tables, 0.5)]
      expect([...norms]).toEqual(wanted)
      expect(await gradientsOf(apart.dense)).toEqual(await gradientsOf(dense))
      expect(await gradientsOf(apart.tables)).toEqual(await gradientsOf(tables))
    })

    test('norms of what is not there are 0', async () => {
      const { dense, tables } = make()
      const [denseNorm, none] = await clipGradNorm(dense, 1, { tables: 'apart' }).data()
      expect([denseNorm! > 0, none]).toEqual([true, 0])
      const [noDense, tableNorm] = await clipGradNorm(tables, 1, { tables: 'apart' }).data()
      expect([noDense, tableNorm! > 0]).toEqual([0, true])
    })

    test('other options are refused', async () => {
      const { dense } = make()
      await errorOf('ERR_VALUE', () => clipGradNorm(dense, 1, { tables: 'alone' as never }))
      await errorOf('ERR_OPTION', () => clipGradNorm(dense, 1, { table: 'apart' } as never))
    })
  })

  test('the sparse gradient of a table is never held', async () => {
    const [slots, dim, tokens] = [64, 64, 256]
    const layer = new MemoryLayer(device, {
      inputDim: 8,
      valueDim: dim,
      nKeys: Math.sqrt(slots),
      heads: 2,
      knn: 4,
      keyDim: 8,
    })
    const x = device.normal([tokens, 8], { seed: 1 })
    layer.backward(layer.forward(x).context, x)
    await device.synchronize()
    const before = device.memory().peak
    clipGradNorm(layer.parameters(), 1)
    expect(device.memory().peak - before).toBeLessThan(4 * tokens * 8 * dim)
  })
})
