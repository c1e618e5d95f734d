import { expect, test } from 'vitest'
import { PeerLayer, type PeerLayerOptions, Sgd, ValueTable } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { expectLayerGradients } from '../support/layers.js'

const small: PeerLayerOptions = { inputDim: 10, heads: 2, knn: 3, nKeys: 5, keyDim: 8, seed: 2 }

onEveryDevice((device) => {
  test.each<[string, Partial<PeerLayerOptions>]>([
    ['gelu', {}],
    ['relu', { activation: 'relu' }],
    ['output width and query norm', { outputDim: 7, queryNorm: 'rms' }],
  ])('%s: every gradient equals finite differences', async (_, options) => {
    const layer = new PeerLayer(device, { ...small, ...options })
    const x = device.normal([4, 10], { seed: 1 })
    await expectLayerGradients(layer, x, device.normal([4, layer.outputDim], { seed: 2 }))
  })

  test('tables can be shared and trained, under the published names', async () => {
    const down = new ValueTable(device, { slots: 25, dim: 10 })
    const up = new ValueTable(device, { slots: 25, dim: 6 })
    const layers = [0, 1].map((seed) => new PeerLayer(device, { ...small, seed, down, up }))
    const parameters = layers.flatMap((l) => l.parameters())
    const before = await up.weight.data()

    for (const layer of layers) {
      const { context } = layer.forward(device.normal([4, 10], { seed: 1 }))
      layer.backward(context, device.normal([4, 6], { seed: 2 }))
    }
    expect(down.pendingReads).toBe(2)
    const gradient = await up.gradient().toDense().data()
    new Sgd(parameters, { lr: 0.1 }).step()

    const after = await up.weight.data()
    for (const [i, v] of after.entries()) expect(v).toBeCloseTo(before[i]! - 0.1 * gradient[i]!, 5)
    expect(layers[0]!.outputDim).toBe(6)
    const names = Object.keys(layers[0]!.stateDict())
    expect(names).toContain('values_u.weight')
    expect(names).toContain('values_v.weight')
  })

  test.each(['bfloat16', 'float16'] as const)('%s tables learn', async (dtype) => {
    const layer = new PeerLayer(device, { ...small, dtype })
    expect([layer.down.dtype, layer.up.dtype]).toEqual([dtype, dtype])
    const optimizer = new Sgd(layer.parameters(), { lr: 0.2 })
    const x = device.normal([6, 10], { seed: 1 })
    const loss = async () => {
      const { output, context } = layer.forward(x)
      const y = await output.data()
      const error = y.map((v, i) => v - Math.sin(i))
      layer.backward(context, device.tensor(error, [6, 10]))
      optimizer.step()
      optimizer.zeroGrad()
      return error.reduce((sum, e) => sum + e * e, 0)
    }
    const first = await loss()
    for (let i = 0; i < 20; i++) await loss()
    expect(await loss()).toBeLessThan(first / 2)
    await errorOf('ERR_DTYPE', () => {
      const up = new ValueTable(device, { slots: 25, dim: 10 })
      return new PeerLayer(device, { ...small, down: layer.down, up })
    })
  })

  test('inputs, contexts and options are checked', async () => {
    const layer = new PeerLayer(device, small)
    const zeros = (tokens: number) => device.zeros([tokens, 10])
    await errorOf('ERR_SHAPE', () => layer.forward(device.zeros([2, 9])))
    const { context } = layer.forward(zeros(2))
    await errorOf('ERR_CONTEXT', () => new PeerLayer(device, small).backward(context, zeros(2)))
    await errorOf('ERR_SHAPE', () => layer.backward(context, zeros(3)))
    layer.backward(context, zeros(2))
    await errorOf('ERR_CONTEXT', () => layer.backward(context, zeros(2)))
    await errorOf('ERR_STATE_DICT', () => layer.loadStateDict({}))

    const make = (option: object) => () => new PeerLayer(device, { ...small, ...option })
    expect(await errorOf('ERR_OPTION', make({ activtion: 'relu' }))).toContain('"activation"')
    const down = new ValueTable(device, { slots: 25, dim: 9 })
    await errorOf('ERR_SHAPE', make({ down }))
  })
})
