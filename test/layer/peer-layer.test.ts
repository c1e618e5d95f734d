import { describe, expect, test } from 'vitest'
import {
  openDevice,
  PeerLayer,
  type PeerLayerOptions,
  Sgd,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

const small: PeerLayerOptions = { inputDim: 10, heads: 2, knn: 3, nKeys: 5, keyDim: 8, seed: 2 }

describe.each(testDevices)('on %s', (name) => {
  const device = openDevice(name)

  test.each<[string, Partial<PeerLayerOptions>]>([
    ['gelu', {}],
    ['relu', { activation: 'relu' }],
    ['output width and query norm', { outputDim: 7, queryNorm: 'rms' }],
  ])('%s: every gradient is the slope of the loss', async (_, more) => {
    const layer = new PeerLayer(device, { ...small, ...more })
    const x = device.normal([4, 10], { seed: 1 })
    const g = device.normal([4, layer.outputDim], { seed: 2 })
    const gData = await g.data()
    const { context } = layer.forward(x)
    const dx = layer.backward(context, g)
    const loss = async () =>
      ((await layer.infer(x).data()) as Float32Array).reduce((sum, v, i) => sum + v * gData[i]!, 0)
    const check = async (label: string, value: Tensor, grad: ArrayLike<number>) => {
      const before = (await value.data()).slice() as Float32Array
      const direction = (await device.normal([before.length], { seed: 77 }).data()) as Float32Array
      const slope = direction.reduce((sum, d, i) => sum + d * grad[i]!, 0)
      const scale = Math.sqrt(direction.reduce((sum, d, i) => sum + (d * grad[i]!) ** 2, 0)) + 1e-3
      const errors: number[] = []
      for (const step of [1e-3, 3e-4]) {
        value.write(before.map((v, i) => v + step * direction[i]!))
        const up = await loss()
        value.write(before.map((v, i) => v - step * direction[i]!))
        errors.push(Math.abs((up - (await loss())) / (2 * step) - slope) / scale)
        value.write(before)
      }
      expect(Math.min(...errors), label).toBeLessThan(0.04) // one of the steps keeps the selection
    }
    for (const p of layer.parameters())
      await check(
        p.name,
        p.value,
        p.kind === 'dense' ? await p.grad.data() : await p.grad.toDense().data(),
      )
    await check('x', x, await dx.data())
  })

  test('tables can be shared and trained, under the published names', async () => {
    const down = new ValueTable(device, { slots: 25, dim: 10 })
    const up = new ValueTable(device, { slots: 25, dim: 6 })
    const layers = [0, 1].map((seed) => new PeerLayer(device, { ...small, seed, down, up }))
    expect(layers[0]!.outputDim).toBe(6)
    const optimizer = new Sgd(
      layers.flatMap((l) => l.parameters()),
      { lr: 0.1 },
    )
    const before = await up.weight.data()
    for (const layer of layers)
      layer.backward(
        layer.forward(device.normal([4, 10], { seed: 1 })).context,
        device.normal([4, 6], { seed: 2 }),
      )
    expect(down.pendingReads).toBe(2)
    const g = await up.gradient().toDense().data()
    optimizer.step()
    const after = await up.weight.data()
    for (const [i, v] of after.entries()) expect(v).toBeCloseTo(before[i]! - 0.1 * g[i]!, 5)
    expect(Object.keys(layers[0]!.stateDict())).toContain('values_u.weight')
    expect(Object.keys(layers[0]!.stateDict())).toContain('values_v.weight')
  })

  test('errors', async () => {
    const layer = new PeerLayer(device, small)
    await errorOf('ERR_SHAPE', () => layer.forward(device.zeros([2, 9])))
    const { context } = layer.forward(device.zeros([2, 10]))
    await errorOf('ERR_CONTEXT', () =>
      new PeerLayer(device, small).backward(context, device.zeros([2, 10])),
    )
    await errorOf('ERR_SHAPE', () => layer.backward(context, device.zeros([3, 10])))
    layer.backward(context, device.zeros([2, 10]))
    await errorOf('ERR_CONTEXT', () => layer.backward(context, device.zeros([2, 10])))
    expect(
      await errorOf(
        'ERR_OPTION',
        () => new PeerLayer(device, { ...small, activtion: 'relu' } as never),
      ),
    ).toMatch(/"activation"/)
    await errorOf(
      'ERR_SHAPE',
      () =>
        new PeerLayer(device, { ...small, down: new ValueTable(device, { slots: 25, dim: 9 }) }),
    )
    await errorOf('ERR_STATE_DICT', () => layer.loadStateDict({}))
  })
})
