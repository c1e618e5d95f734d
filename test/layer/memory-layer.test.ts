import { describe, expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import {
  AdamW,
  MemoryLayer,
  type MemoryLayerOptions,
  openDevice,
  type Parameter,
  Sgd,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

const small: MemoryLayerOptions = { inputDim: 12, heads: 2, knn: 4, nKeys: 6, keyDim: 8, seed: 3 }

describe.each(testDevices)('on %s', (name) => {
  const device = openDevice(name)
  const x = () => device.normal([5, 12], { seed: 1 })
  const dy = () => device.normal([5, 12], { seed: 2 })
  const values = async (list: readonly Parameter[]) =>
    Promise.all(list.map(async (p) => Array.from(await p.value.data())))
  const gradients = async (list: readonly Parameter[]) =>
    Promise.all(
      list.map(async (p) =>
        p.kind === 'dense'
          ? Array.from(await p.grad.data())
          : Object.values(await p.grad.data()).map((v) => Array.from(v)),
      ),
    )

  test('forward, infer and numbers as input agree, in the shape of the input', async () => {
    const layer = new MemoryLayer(device, small)
    const input = x()
    const { output, context } = layer.forward(input)
    const y = await output.data()
    expect(output.shape).toEqual([5, 12])
    expect(await layer.infer(input).data()).toEqual(y)
    const numbers = await input.data()
    for (const data of [numbers, Float64Array.from(numbers), Array.from(numbers)])
      expect(await layer.infer(data).data()).toEqual(y)
    const three = layer.infer(input.reshape([1, 5, 12]))
    expect(three.shape).toEqual([1, 5, 12])
    expect(await three.data()).toEqual(y)
    const { indices, weights } = context.lookup()
    expect(indices.shape).toEqual([5, 2, 4])
    const sums = Array.from({ length: 10 }, () => 0)
    for (const [i, w] of (await weights.data()).entries()) sums[Math.floor(i / 4)]! += w
    for (const s of sums) expect(s).toBeCloseTo(1, 5)
  })

  test('the same seed gives the same layer and another seed another', async () => {
    const one = await values(new MemoryLayer(device, small).parameters())
    expect(await values(new MemoryLayer(device, small).parameters())).toEqual(one)
    expect(await values(new MemoryLayer(device, { ...small, seed: 4 }).parameters())).not.toEqual(
      one,
    )
  })

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
  ])('%s: every gradient is the slope of the loss', async (_, more) => {
    const layer = new MemoryLayer(device, { ...small, ...more })
    const out = layer.outputDim
    const input = x()
    const g = device.normal([5, out], { seed: 9 })
    const gData = await g.data()
    const { context } = layer.forward(input)
    // The loss is smooth while each head reads the same slots, in whatever order.
    const chosen = async (c: typeof context) => {
      const flat = await c.lookup().indices.data()
      return Array.from({ length: 10 }, (_, th) =>
        [...flat.slice(th * 4, th * 4 + 4)].sort((a, b) => a - b).join(),
      )
    }
    const selection = await chosen(context)
    const dx = layer.backward(context, g)
    // Steps along a random direction of each parameter: the loss changes by step * <gradient,
    // direction>.
    const loss = async () => {
      const { output, context } = layer.forward(input)
      const same = (await chosen(context)).every((v, i) => v === selection[i])
      const y = await output.data()
      return { loss: (y as Float32Array).reduce((sum, v, i) => sum + v * gData[i]!, 0), same }
    }
    const check = async (label: string, value: Tensor, grad: ArrayLike<number>) => {
      const before = (await value.data()).slice() as Float32Array
      for (const [seed, step] of [77, 78, 79, 80].flatMap((seed) =>
        [2e-3, 1e-3, 3e-4].map((step) => [seed, step] as const),
      )) {
        const direction = (await device.normal([before.length], { seed }).data()) as Float32Array
        const slope = direction.reduce((sum, d, i) => sum + d * grad[i]!, 0)
        const scale =
          Math.sqrt(direction.reduce((sum, d, i) => sum + (d * grad[i]!) ** 2, 0)) + 1e-3
        value.write(before.map((v, i) => v + step * direction[i]!))
        const up = await loss()
        value.write(before.map((v, i) => v - step * direction[i]!))
        const down = await loss()
        value.write(before)
        // the selection changed: take a smaller step, or another direction
        if (!up.same || !down.same) continue
        expect(Math.abs((up.loss - down.loss) / (2 * step) - slope), label).toBeLessThan(
          0.03 * scale,
        )
        return
      }
      throw new Error(`${label}: the selection changed at every step`)
    }
    for (const p of layer.parameters()) {
      const grad = p.kind === 'dense' ? await p.grad.data() : await p.grad.toDense().data()
      await check(p.name, p.value, grad)
    }
    await check('x', input, await dx.data())
  })

  test('gradients add up until zeroGrad, and a step leaves them', async () => {
    const layer = new MemoryLayer(device, small)
    const optimizer = new Sgd(layer.parameters(), { lr: 0 })
    layer.backward(layer.forward(x()).context, dy())
    const once = await gradients(layer.parameters())
    layer.backward(layer.forward(x()).context, dy())
    const twice = (await gradients(layer.parameters())).flat(2)
    for (const [i, g] of once.flat(2).entries()) {
      if (i < once.flat(2).length - 1)
        expect(Math.abs(twice[i]!)).toBeGreaterThanOrEqual(Math.abs(g) - 1e-6)
    }
    optimizer.step()
    expect((await gradients(layer.parameters())).flat(2)).toEqual(twice)
    optimizer.zeroGrad()
    const list = layer.parameters()
    for (const p of list) {
      if (p.kind === 'dense') expect((await p.grad.data()).every((v) => v === 0)).toBe(true)
      else expect((await p.grad.data()).rows.length).toBe(0)
    }
    expect(layer.values.pendingReads).toBe(0)
  })

  test('a table that is read only keeps no reads: nothing would ever take them', async () => {
    const rows = device.tensor(new Int8Array(36 * 12).fill(3), [36, 12])
    const frozen = new ValueTable(device, { slots: 36, dim: 12, dtype: 'int8' })
    frozen.weight.copyFrom(rows)
    frozen.scales!.copyFrom(device.tensor(new Float32Array(36).fill(0.5), [36]))
    const layer = new MemoryLayer(device, { ...small, values: frozen })
    const dense = layer.parameters().filter((p) => p.kind === 'dense')
    const optimizer = new Sgd(dense, { lr: 0.1 })
    for (let step = 0; step < 3; step++) {
      layer.backward(layer.forward(x()).context, dy())
      expect(dense.length).toBeGreaterThan(0)
      expect((await gradients(dense)).flat(2).some((g) => g !== 0)).toBe(true)
      optimizer.step()
      optimizer.zeroGrad()
      expect(frozen.pendingReads).toBe(0)
    }
    expect((await frozen.gradient().data()).rows.length).toBe(0)
  })

  test('a shared table: one gradient, one update of each touched row', async () => {
    const values = new ValueTable(device, { slots: 36, dim: 12, init: { seed: 1 } })
    const layers = [0, 1, 2].map((seed) => new MemoryLayer(device, { ...small, seed, values }))
    const before = await values.weight.data()
    const sum = new Float64Array(36 * 12)
    for (const layer of layers) {
      const own = new MemoryLayer(device, { ...small, seed: 0 })
      own.loadStateDict({ ...layer.stateDict(), 'values.weight': values.weight })
      own.backward(own.forward(x()).context, dy())
      for (const [i, g] of (await own.values.gradient().toDense().data()).entries()) sum[i]! += g
      layer.backward(layer.forward(x()).context, dy())
    }
    expect(values.pendingReads).toBe(3)
    const merged = await values.gradient().toDense().data()
    for (const [i, g] of sum.entries()) expect(merged[i]).toBeCloseTo(g, 5)
    new Sgd(
      layers.flatMap((l) => l.parameters()),
      { lr: 0.5 },
    ).step()
    const after = await values.weight.data()
    for (const [i, g] of sum.entries()) expect(after[i]).toBeCloseTo(before[i]! - 0.5 * g, 5)
  })

  test('two contexts may wait, and be spent in any order', async () => {
    const layer = new MemoryLayer(device, small)
    const one = layer.forward(x())
    const two = layer.forward(device.normal([3, 12], { seed: 8 }))
    expect(layer.backward(one.context, dy()).shape).toEqual([5, 12])
    expect(layer.backward(two.context, device.normal([3, 12], { seed: 9 })).shape).toEqual([3, 12])
  })

  test('a spent, disposed or foreign context is ERR_CONTEXT; after a bad dy the context can still be used', async () => {
    const layer = new MemoryLayer(device, small)
    const { context } = layer.forward(x())
    const before = await gradients(layer.parameters())
    expect(
      await errorOf('ERR_SHAPE', () => layer.backward(context, device.zeros([4, 12]))),
    ).toMatch(/"dy" must have shape \[5, 12\]/)
    await errorOf('ERR_SHAPE', () => layer.backward(context, device.zeros([5, 11])))
    await errorOf('ERR_DTYPE', () => layer.backward(context, device.zeros([5, 12], 'int32')))
    await errorOf('ERR_CONTEXT', () => new MemoryLayer(device, small).backward(context, dy()))
    expect(await gradients(layer.parameters())).toEqual(before)
    expect(layer.values.pendingReads).toBe(0)
    layer.backward(context, dy())
    expect(await errorOf('ERR_CONTEXT', () => layer.backward(context, dy()))).toMatch(/spent/)
    await errorOf('ERR_CONTEXT', () => layer.backward({} as never, dy()))
    const dropped = layer.forward(x()).context
    dropped.dispose()
    await errorOf('ERR_CONTEXT', () => layer.backward(dropped, dy()))
  })

  test('the message of a wrong shape says what the layer was made with', async () => {
    const layer = new MemoryLayer(device, small)
    expect(await errorOf('ERR_SHAPE', () => layer.forward(device.zeros([256, 64])))).toBe(
      'MemoryLayer.forward: "x" must have shape [tokens, 12] or [batch, time, 12], got [256, 64].\n  This layer was made with inputDim 12.',
    )
    await errorOf('ERR_SHAPE', () => layer.infer(new Float32Array(13)))
    await errorOf('ERR_DTYPE', () => layer.forward(device.zeros([2, 12], 'bfloat16')))
    expect(await errorOf('ERR_DTYPE', () => layer.forward('x' as never))).toMatch(
      /"x" must be a Tensor, a typed array .* got x/,
    )
    await errorOf('ERR_DTYPE', () => layer.forward(new BigInt64Array(12) as never))
    await errorOf('ERR_DEVICE_MISMATCH', () => layer.forward(openDevice('cpu').zeros([2, 12])))
    const gone = x()
    gone.dispose()
    await errorOf('ERR_DISPOSED', () => layer.forward(gone))
  })

  test('options are checked', async () => {
    const bad: [Record<string, unknown>, Parameters<typeof errorOf>[0], RegExp][] = [
      [{ ...small, head: 2 }, 'ERR_OPTION', /Did you mean "heads"/],
      [{ ...small, heads: 0 }, 'ERR_VALUE', /"heads"/],
      [{ ...small, inputDim: undefined }, 'ERR_VALUE', /"inputDim"/],
      [{ ...small, keyDim: 7 }, 'ERR_VALUE', /even/],
      [{ ...small, nKeys: 50_000 }, 'ERR_VALUE', /"nKeys"/],
      [{ ...small, gate: 'swilu' }, 'ERR_VALUE', /Did you mean 'silu'/],
      [{ ...small, outputGate: 1 }, 'ERR_VALUE', /"outputGate"/],
      [{ ...small, dtype: 'int8' }, 'ERR_VALUE', /^MemoryLayer: "dtype"/],
      [{ ...small, queryNorm: 'rm' }, 'ERR_VALUE', /'rms'/],
      [{ ...small, values: {} }, 'ERR_VALUE', /ValueTable/],
      [
        { ...small, values: new ValueTable(device, { slots: 35, dim: 12 }) },
        'ERR_SHAPE',
        /36 slots/,
      ],
      [
        { ...small, values: new ValueTable(device, { slots: 36, dim: 12 }), valueDim: 8 },
        'ERR_SHAPE',
        /dim 8/,
      ],
      [
        { ...small, values: new ValueTable(openDevice('cpu'), { slots: 36, dim: 12 }) },
        'ERR_DEVICE_MISMATCH',
        /"values"/,
      ],
    ]
    for (const [o, code, message] of bad)
      expect(await errorOf(code, () => new MemoryLayer(device, o as never))).toMatch(message)
    await errorOf('ERR_DEVICE', () => new MemoryLayer({} as never, small))
  })

  test('k may exceed n, and even n*n: the rest are empty places', async () => {
    const layer = new MemoryLayer(device, { ...small, nKeys: 2, knn: 7 })
    const { output, context } = layer.forward(x())
    const indices = Array.from(await context.lookup().indices.data())
    expect(indices.filter((i) => i === -1).length).toBe(5 * 2 * 3)
    expect((await output.data()).every(Number.isFinite)).toBe(true)
    expect((await layer.backward(context, dy()).data()).every(Number.isFinite)).toBe(true)
  })

  test('NaN in one token makes that token NaN and no other', async () => {
    const layer = new MemoryLayer(device, small)
    const input = (await x().data()) as Float32Array
    const clean = await layer.infer(input).data()
    input[2 * 12 + 3] = Number.NaN
    const y = await layer.infer(input).data()
    expect(y.slice(24, 36).every(Number.isNaN)).toBe(true)
    expect(y.slice(0, 24)).toEqual(clean.slice(0, 24))
    expect(y.slice(36)).toEqual(clean.slice(36))
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
        const own = openDevice(name, { threads })
        const layer = new MemoryLayer(own, {
          ...small,
          inputDim: 96,
          keyDim: 48,
          nKeys: 40,
          outputGate: true,
          queryNorm: 'rms',
        })
        const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
        for (let step = 0; step < 3; step++) {
          const { context } = layer.forward(own.normal([333, 96], { seed: step }))
          layer.backward(context, own.normal([333, 96], { seed: 50 + step }))
          optimizer.step()
          optimizer.zeroGrad()
        }
        return values(layer.parameters())
      }
      const one = await run(1)
      for (const threads of [2, 3, 5]) expect(await run(threads)).toEqual(one)
    },
  )

  test('state dict: published names, all or nothing', async () => {
    const layer = new MemoryLayer(device, { ...small, outputGate: true })
    const other = new MemoryLayer(device, { ...small, outputGate: true, seed: 9 })
    const state = layer.stateDict()
    expect(Object.keys(state).sort()).toEqual([
      'gating.bias',
      'gating.weight',
      'keys',
      'query_proj.query_mlps.0.bias',
      'query_proj.query_mlps.0.weight',
      'swilu_projection.bias',
      'swilu_projection.weight',
      'value_proj.bias',
      'value_proj.weight',
      'values.weight',
    ])
    const before = await values(other.parameters())
    const { keys, ...rest } = state
    expect(await errorOf('ERR_STATE_DICT', () => other.loadStateDict(rest))).toMatch(
      /"keys" \[2, 2, 6, 4\] is missing/,
    )
    expect(
      await errorOf('ERR_STATE_DICT', () => other.loadStateDict({ ...state, extra: keys! })),
    ).toMatch(/unknown name "extra"/)
    await errorOf('ERR_STATE_DICT', () =>
      other.loadStateDict({ ...state, 'values.weight': device.zeros([35, 12]) }),
    )
    await errorOf('ERR_STATE_DICT', () =>
      other.loadStateDict({ ...state, 'values.weight': device.zeros([36, 12], 'int32') }),
    )
    await errorOf('ERR_STATE_DICT', () =>
      other.loadStateDict({ ...state, 'gating.bias': 1 as never }),
    )
    expect(await values(other.parameters())).toEqual(before)
    other.loadStateDict({ ...state, keys: keys!.reshape([24, 4]) })
    expect(await values(other.parameters())).toEqual(await values(layer.parameters()))
    const away = openDevice('cpu')
    const third = new MemoryLayer(away, { ...small, outputGate: true, seed: 10 })
    third.loadStateDict(state)
    expect(await values(third.parameters())).toEqual(await values(layer.parameters()))
  })

  test('a state dict for a table that was disposed loads nothing', async () => {
    const table = new ValueTable(device, { slots: 36, dim: 12 })
    const layer = new MemoryLayer(device, { ...small, values: table })
    const dense = layer.parameters().filter((p) => p.kind === 'dense')
    const before = await values(dense)
    table.dispose()
    const state = new MemoryLayer(device, { ...small, seed: 9 }).stateDict()
    expect(await errorOf('ERR_DISPOSED', () => layer.loadStateDict(state))).toMatch(
      /^MemoryLayer\.loadStateDict: "values\.weight"/,
    )
    expect(await values(dense)).toEqual(before)
  })

  test('three crossings a layer and step, and one for the gradients to zero', () => {
    const layer = new MemoryLayer(device, small)
    const optimizer = new AdamW(layer.parameters(), { lr: 1e-3 })
    const input = x()
    const g = dy()
    const count = (f: () => void) => {
      const before = native.crossings()
      f()
      return native.crossings() - before - 1 // the question is a call too
    }
    let context!: ReturnType<typeof layer.forward>['context']
    expect(count(() => ({ context } = layer.forward(input)))).toBe(1)
    expect(count(() => layer.backward(context, g))).toBe(1)
    expect(count(() => optimizer.step())).toBe(1)
    expect(count(() => optimizer.zeroGrad())).toBe(1)
    expect(count(() => layer.infer(input))).toBe(1)
  })

  test('16-bit tables are read and trained through exact masters', async () => {
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const layer = new MemoryLayer(device, { ...small, dtype })
      const optimizer = new Sgd(layer.parameters(), { lr: 1e-4 })
      const master =
        (await optimizer.stateDict()['9.values.weight.master']?.data()) ??
        (await Object.entries(optimizer.stateDict())
          .find(([n]) => n.endsWith('master'))![1]
          .data())
      layer.backward(layer.forward(x()).context, dy())
      const g = await layer.values.gradient().toDense().data()
      for (let i = 0; i < 3; i++) optimizer.step()
      const after = await Object.entries(optimizer.stateDict())
        .find(([n]) => n.endsWith('master'))![1]
        .data()
      const table = await layer.values.weight.to('float32').data()
      for (const [i, m] of after.entries()) {
        expect(m).toBeCloseTo(master[i]! - 3e-4 * g[i]!, 6)
        expect(Math.abs(table[i]! - m)).toBeLessThanOrEqual(
          Math.abs(m) * 2 ** (dtype === 'bfloat16' ? -8 : -11) + 1e-7,
        )
      }
    }
  })

  test('dispose gives everything back, and a disposed table is named', async () => {
    const own = openDevice(name)
    const layer = new MemoryLayer(own, small)
    const input = own.normal([5, 12], { seed: 1 })
    layer.backward(layer.forward(input).context, own.normal([5, 12], { seed: 2 }))
    layer.dispose()
    await errorOf('ERR_DISPOSED', () => layer.forward(input))
    const values = new ValueTable(own, { slots: 36, dim: 12 })
    const reader = new MemoryLayer(own, { ...small, values })
    values.dispose()
    expect(await errorOf('ERR_DISPOSED', () => reader.forward(input))).toMatch(/table/)
  })
})
