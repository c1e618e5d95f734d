import { describe, expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import {
  Adagrad,
  AdamW,
  clipGradNorm,
  MemoryLayer,
  type Optimizer,
  openDevice,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
} from '../../lib/index.js'
import { Embedding } from '../../lib/nn/index.js'
import { testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { Reference } from './reference.js'

const small = { inputDim: 12, heads: 2, knn: 3, nKeys: 8, keyDim: 8, seed: 3 }
type Rule = Parameters<Reference['update']>[0]

const cases: [string, Rule, Record<string, unknown>, (p: readonly Parameter[]) => Optimizer][] = [
  ['Sgd', 'sgd', { lr: 0.1 }, (p) => new Sgd(p, { lr: 0.1 })],
  [
    'Sgd with decay',
    'sgd',
    { lr: 0.1, weightDecay: 0.2 },
    (p) => new Sgd(p, { lr: 0.1, weightDecay: 0.2 }),
  ],
  ['Adagrad', 'adagrad', { lr: 0.1 }, (p) => new Adagrad(p, { lr: 0.1 })],
  [
    'RowwiseAdagrad',
    'rowwise',
    { lr: 0.1, weightDecay: 0.1 },
    (p) => new RowwiseAdagrad(p, { lr: 0.1, weightDecay: 0.1 }),
  ],
  ['AdamW', 'adamw', { lr: 0.01, eps: 1e-8 }, (p) => new AdamW(p, { lr: 0.01 })],
  [
    'AdamW with its options',
    'adamw',
    { lr: 0.01, eps: 1e-6, betas: [0.8, 0.95], weightDecay: 0.3, tableLr: 0.03 },
    (p) =>
      new AdamW(p, { lr: 0.01, eps: 1e-6, betas: [0.8, 0.95], weightDecay: 0.3, tableLr: 0.03 }),
  ],
  [
    'AdamW, dense on tables',
    'adamw',
    { lr: 0.01, eps: 1e-8, weightDecay: 0.1, dense: true },
    (p) => new AdamW(p, { lr: 0.01, weightDecay: 0.1, tableMode: 'dense' }),
  ],
]

describe.each(testDevices)('on %s', (name) => {
  const device = openDevice(name)
  const train = (layer: MemoryLayer, step: number) => {
    layer.backward(
      layer.forward(device.normal([6, 12], { seed: step })).context,
      device.normal([6, 12], { seed: 100 + step }),
    )
  }

  test.each(cases)(
    '%s equals the float64 rule over five steps, touched rows only',
    async (_, rule, h, make) => {
      const layer = new MemoryLayer(device, small)
      const optimizer = make(layer.parameters())
      const references = new Map<string, Reference>()
      for (const p of layer.parameters())
        references.set(
          p.name,
          new Reference(Float64Array.from(await p.value.data()), p.kind === 'table' ? 12 : 1),
        )
      for (let step = 1; step <= 5; step++) {
        train(layer, step)
        for (const p of layer.parameters()) {
          const r = references.get(p.name)!
          r.step = step
          const lr = (p.kind === 'table' ? (h['tableLr'] ?? h['lr']) : h['lr']) as number
          const touched =
            p.kind === 'table' && !h['dense']
              ? (await p.grad.data()).rows
              : Array.from({ length: r.x.length / r.width }, (_, i) => i)
          const grad = p.kind === 'table' ? await p.grad.toDense().data() : await p.grad.data()
          r.update(
            rule === 'rowwise' && p.kind === 'dense' ? 'adagrad' : rule,
            grad,
            { ...h, lr },
            touched,
          )
        }
        optimizer.step()
        optimizer.zeroGrad()
        for (const p of layer.parameters()) {
          const x = references.get(p.name)!.x
          const got = await p.value.data()
          for (const [i, v] of got.entries()) {
            const far = Math.abs(v - x[i]!)
            expect(
              far <= 2e-5 * Math.max(0.1, Math.abs(x[i]!)),
              `${p.name}[${i}] after step ${step}: ${v}, wanted ${x[i]}`,
            ).toBe(true)
          }
          // The reference goes on from the device's float32 numbers, so that the next selection is
          // the same.
          x.set(got)
        }
      }
    },
  )

  test.each([
    [1e25, 20],
    [1e25, 200],
    [1e-25, 20],
    [1e-25, 200],
  ])(
    'row-wise Adagrad: dy of %d whose square is no float32, %d wide, under a weight that makes it one',
    async (scale, dim) => {
      const embedding = new Embedding(device, { count: 3, dim, seed: 1 })
      const before = await embedding.table.weight.data()
      const unit = (bag: number, c: number) => ((bag * dim + c) % 7 < 3 ? -1 : 2)
      const dy = device.tensor(
        Float32Array.from({ length: 2 * dim }, (_, i) => scale * unit(0, i)),
        [2, dim],
      )
      // Row 2 is read by both bags, row 0 by the second.
      const indices = device.tensor([2, -1, 2, 0], [2, 2], 'int32')
      const weights = device.tensor([1 / scale, 0, 0.5 / scale, 10 / scale], [2, 2])
      native.tablePush(
        embedding.table.handle,
        indices.handle('test', 'i'),
        weights.handle('test', 'w'),
        dy.handle('test', 'dy'),
      )
      new RowwiseAdagrad(embedding.parameters(), { lr: 0.1 }).step()
      const after = await embedding.table.weight.data()
      for (const [row, gradient] of [
        [2, (c: number) => unit(0, c) + 0.5 * unit(1, c)],
        [0, (c: number) => 10 * unit(1, c)],
      ] as const) {
        const g = Array.from({ length: dim }, (_, c) => gradient(c))
        const root = Math.sqrt(g.reduce((sum, x) => sum + x * x, 0) / dim)
        for (let c = 0; c < dim; c++)
          expect(after[row * dim + c]).toBeCloseTo(before[row * dim + c]! - (0.1 * g[c]!) / root, 5)
      }
      expect(after.slice(dim, 2 * dim)).toEqual(before.slice(dim, 2 * dim))
    },
  )

  test('rows that nothing read keep their bits, even under decay and momentum', async () => {
    const layer = new MemoryLayer(device, { ...small, nKeys: 32 })
    const optimizer = new AdamW(layer.parameters(), { lr: 0.1, weightDecay: 0.5 })
    const before = await layer.values.weight.data()
    train(layer, 1)
    const { rows } = await layer.values.gradient().data()
    optimizer.step()
    const after = await layer.values.weight.data()
    const touched = new Set(rows)
    expect(touched.size).toBeLessThan(200)
    for (let row = 0; row < 1024; row++) {
      const same = after.slice(row * 12, row * 12 + 12).every((v, i) => v === before[row * 12 + i])
      expect(same).toBe(!touched.has(row))
    }
  })

  test('lr = 0 changes no bit; lr may be set between steps', async () => {
    const layer = new MemoryLayer(device, small)
    const optimizer = new AdamW(layer.parameters(), { lr: 0, weightDecay: 0.1 })
    const before = await layer.values.weight.data()
    train(layer, 1)
    optimizer.step()
    expect(await layer.values.weight.data()).toEqual(before)
    optimizer.lr = 0.1
    optimizer.step()
    expect(await layer.values.weight.data()).not.toEqual(before)
    optimizer.lr = Number.NaN
    await errorOf('ERR_VALUE', () => optimizer.step())
  })

  test('a resumed run is the same run, bit for bit', async () => {
    const make = (l: MemoryLayer) => new AdamW(l.parameters(), { lr: 0.05, weightDecay: 0.1 })
    const straight = new MemoryLayer(device, small)
    const one = make(straight)
    const first = new MemoryLayer(device, small)
    const two = make(first)
    const go = (l: MemoryLayer, o: AdamW, from: number, to: number) => {
      for (let step = from; step < to; step++) {
        train(l, step)
        o.step()
        o.zeroGrad()
      }
    }
    go(straight, one, 0, 6)
    go(first, two, 0, 3)
    const second = new MemoryLayer(device, { ...small, seed: 99 })
    second.loadStateDict(first.stateDict())
    const three = make(second)
    three.loadStateDict(two.stateDict())
    go(second, three, 3, 6)
    for (const [i, p] of straight.parameters().entries())
      expect(await second.parameters()[i]!.value.data()).toEqual(await p.value.data())
    await errorOf('ERR_STATE_DICT', () => three.loadStateDict({ step: device.zeros([1], 'int32') }))
  })

  test('clipGradNorm scales dense and table gradients together', async () => {
    const layer = new MemoryLayer(device, small)
    train(layer, 1)
    train(layer, 2)
    const all = async () => {
      const list: number[] = []
      for (const p of layer.parameters())
        list.push(...(p.kind === 'dense' ? await p.grad.data() : await p.grad.toDense().data()))
      return list
    }
    const before = await all()
    const norm = Math.sqrt(before.reduce((sum, g) => sum + g * g, 0))
    expect((await clipGradNorm(layer.parameters(), norm * 2).data())[0]).toBeCloseTo(norm, 3)
    expect(await all()).toEqual(before)
    expect((await clipGradNorm(layer.parameters(), norm / 4).data())[0]).toBeCloseTo(norm, 3)
    const after = await all()
    for (const [i, g] of before.entries()) expect(after[i]).toBeCloseTo(g / 4, 5)
  })

  test('errors', async () => {
    const layer = new MemoryLayer(device, small)
    const p = layer.parameters()
    expect(
      await errorOf('ERR_OPTION', () => new AdamW(p, { lr: 1, beta: [0, 0] } as never)),
    ).toMatch(/"betas"/)
    expect(
      await errorOf('ERR_OPTION', () => new Sgd(p, { lr: 1, momentum: 0.9 } as never)),
    ).toMatch(/It takes: lr, weightDecay/)
    await errorOf('ERR_VALUE', () => new Sgd(p, {} as never))
    await errorOf('ERR_VALUE', () => new Sgd([], { lr: 1 }))
    await errorOf('ERR_VALUE', () => new Sgd([{}] as never, { lr: 1 }))
    await errorOf('ERR_VALUE', () => new AdamW(p, { lr: 1, betas: [0.9, 1] }))
    await errorOf('ERR_VALUE', () => new AdamW(p, { lr: -1 }))
    await errorOf('ERR_VALUE', () => clipGradNorm(p, -1))
    const elsewhere = new MemoryLayer(openDevice('cpu'), small)
    await errorOf(
      'ERR_DEVICE_MISMATCH',
      () => new Sgd([...p, ...elsewhere.parameters()], { lr: 1 }),
    )
    const optimizer = new Sgd(p, { lr: 1 })
    optimizer.dispose()
    await errorOf('ERR_DISPOSED', () => optimizer.step())
  })
})
