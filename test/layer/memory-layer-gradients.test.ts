import { describe, expect, test } from 'vitest'
import { MemoryLayer, type MemoryLayerOptions, Sgd, ValueTable } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { expectLayerGradients, gradientsOf, small } from '../support/layers.js'

onEveryDevice((device) => {
  const x = () => device.normal([5, 12], { seed: 1 })
  const dy = () => device.normal([5, 12], { seed: 2 })
  const forwardBackward = (layer: MemoryLayer) => layer.backward(layer.forward(x()).context, dy())

  test.each<[string, Partial<MemoryLayerOptions>]>([
    ['plain', { gate: 'none' }],
    ['Memory+', {}],
    ['output gate', { outputGate: true }],
    ['value width', { valueDim: 7 }],
    ['value width without a gate', { valueDim: 7, gate: 'none' }],
    ['output width', { outputDim: 9 }],
    ['query norm', { queryNorm: 'rms' }],
    ['no query bias', { queryBias: false, seed: 5 }],
    ['everything', { outputGate: true, valueDim: 7, outputDim: 9, queryNorm: 'rms' }],
  ])('%s: every gradient equals finite differences', async (_, options) => {
    const layer = new MemoryLayer(device, { ...small, ...options })
    await expectLayerGradients(layer, x(), device.normal([5, layer.outputDim], { seed: 9 }))
  })

  test('gradients accumulate until zeroGrad, and a step leaves them', async () => {
    const layer = new MemoryLayer(device, small)
    const parameters = layer.parameters()
    const optimizer = new Sgd(parameters, { lr: 0 })

    forwardBackward(layer)
    const once = await gradientsOf(parameters)
    forwardBackward(layer)
    const twice = await gradientsOf(parameters)

    for (const [p, { rows, values }] of once.entries()) {
      expect(twice[p]!.rows).toEqual(rows)
      for (const [i, g] of values.entries()) expect(twice[p]!.values[i]).toBeCloseTo(2 * g, 4)
    }
    optimizer.step()
    expect(await gradientsOf(parameters)).toEqual(twice)
    optimizer.zeroGrad()
    for (const { rows, values } of await gradientsOf(parameters)) {
      expect(rows ?? []).toEqual([])
      expect(values.every((g) => g === 0)).toBe(true)
    }
    expect(layer.values.pendingReads).toBe(0)
  })

  test('a table that is only read keeps no reads', async () => {
    const frozen = new ValueTable(device, { slots: 36, dim: 12, dtype: 'int8' })
    frozen.weight.copyFrom(device.tensor(new Int8Array(36 * 12).fill(3), [36, 12]))
    frozen.scales!.copyFrom(device.tensor(new Float32Array(36).fill(0.5), [36]))
    const layer = new MemoryLayer(device, { ...small, values: frozen })
    const dense = layer.parameters().filter((p) => p.kind === 'dense')
    expect(dense.length).toBeGreaterThan(0)
    const optimizer = new Sgd(dense, { lr: 0.1 })
    for (let step = 0; step < 3; step++) {
      forwardBackward(layer)
      const gradients = await gradientsOf(dense)
      expect(gradients.flatMap((g) => g.values).some((g) => g !== 0)).toBe(true)
      optimizer.step()
      optimizer.zeroGrad()
      expect(frozen.pendingReads).toBe(0)
    }
    expect((await frozen.gradient().data()).rows.length).toBe(0)
  })

  test('a shared table has one gradient, and one update of each touched row', async () => {
    const values = new ValueTable(device, { slots: 36, dim: 12, init: { seed: 1 } })
    const before = await values.weight.data()
    const layers = [0, 1, 2].map((seed) => new MemoryLayer(device, { ...small, seed, values }))
    const sum = new Float64Array(36 * 12)
    for (const layer of layers) {
      const alone = new MemoryLayer(device, { ...small, seed: 0 })
      alone.loadStateDict({ ...layer.stateDict(), 'values.weight': values.weight })
      forwardBackward(alone)
      const gradient = await alone.values.gradient().toDense().data()
      for (const [i, g] of gradient.entries()) sum[i]! += g
    }

    for (const layer of layers) forwardBackward(layer)
    expect(values.pendingReads).toBe(3)
    const merged = await values.gradient().toDense().data()
    new Sgd(
      layers.flatMap((l) => l.parameters()),
      { lr: 0.5 },
    ).step()
    const after = await values.weight.data()

    for (const [i, g] of sum.entries()) {
      expect(merged[i]).toBeCloseTo(g, 5)
      expect(after[i]).toBeCloseTo(before[i]! - 0.5 * g, 5)
    }
  })

  describe.each([
    ['bfloat16', 2 ** -8],
    ['float16', 2 ** -11],
  ] as const)('%s tables', (dtype, epsilon) => {
    test('are trained through a float32 master', async () => {
      const layer = new MemoryLayer(device, { ...small, dtype })
      const optimizer = new Sgd(layer.parameters(), { lr: 1e-4 })
      const master = () => {
        const [, tensor] = Object.entries(optimizer.stateDict()).find(([n]) =>
          n.endsWith('master'),
        )!
        return tensor.data()
      }
      const before = await master()
      forwardBackward(layer)
      const gradient = await layer.values.gradient().toDense().data()

      for (let step = 0; step < 3; step++) optimizer.step()

      const table = await layer.values.weight.to('float32').data()
      for (const [i, m] of (await master()).entries()) {
        expect(m).toBeCloseTo(before[i]! - 3e-4 * gradient[i]!, 6)
        expect(Math.abs(table[i]! - m)).toBeLessThanOrEqual(Math.abs(m) * epsilon + 1e-7)
      }
    })
  })
})
