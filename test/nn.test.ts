import { describe, expect, test } from 'vitest'
import { AdamW, type Device, type Parameter, Sgd, type Tensor } from '../lib/index.js'
import {
  Attention,
  CrossEntropy,
  Embedding,
  FeedForward,
  Linear,
  MixtureOfExperts,
  type Module,
  RmsNorm,
} from '../lib/nn/index.js'
import { expectClose } from './support/close.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { dot } from './support/finite-differences.js'

const modules: [string, (d: Device) => Module, number, number][] = [
  ['Linear', (d) => new Linear(d, { inputDim: 6, outputDim: 5, seed: 1 }) as Module, 6, 5],
  [
    'Linear without bias',
    (d) => new Linear(d, { inputDim: 6, outputDim: 5, bias: false }) as Module,
    6,
    5,
  ],
  [
    'FeedForward gelu',
    (d) => new FeedForward(d, { dim: 6, hiddenDim: 9, seed: 1 }) as Module,
    6,
    6,
  ],
  [
    'FeedForward silu',
    (d) => new FeedForward(d, { dim: 6, hiddenDim: 9, activation: 'silu' }) as Module,
    6,
    6,
  ],
  ['RmsNorm', (d) => new RmsNorm(d, { dim: 6 }) as Module, 6, 6],
  ['Attention', (d) => new Attention(d, { dim: 6, heads: 2, seed: 2 }) as Module, 6, 6],
  [
    'Attention both ways',
    (d) => new Attention(d, { dim: 6, heads: 3, causal: false }) as Module,
    6,
    6,
  ],
  // Every expert takes every token, so that no step can change who takes whom.
  [
    'MixtureOfExperts',
    (d) =>
      new MixtureOfExperts(d, { dim: 6, hiddenDim: 5, experts: 3, capacity: 3, seed: 1 }) as Module,
    6,
    6,
  ],
]

onEveryDevice((device) => {
  describe.each(modules)('%s', (_, make, width, out) => {
    test('every gradient is the slope of the loss, along random directions', async () => {
      const module = make(device)
      const x = device.normal([4, width], { seed: 1 })
      const g = (await device.normal([4, out], { seed: 2 }).data()) as Float32Array
      const { output, context } = module.forward(x)
      expect(await output.data()).toEqual(await module.infer(x).data())
      const dx = module.backward(context, device.tensor(g, [4, out]))
      const loss = async () => dot(g, await module.infer(x).data())
      const check = async (label: string, value: Tensor, grad: ArrayLike<number>) => {
        const before = (await value.data()) as Float32Array
        const direction = (await device.normal([before.length], { seed: 7 }).data()) as Float32Array
        const step = 1e-2
        value.write(before.map((v, i) => v + step * direction[i]!))
        const up = await loss()
        value.write(before.map((v, i) => v - step * direction[i]!))
        const down = await loss()
        value.write(before)
        expect(Math.abs((up - down) / (2 * step) - dot(grad, direction)), label).toBeLessThan(
          2e-3 * (1 + Math.abs(dot(grad, direction))),
        )
      }
      for (const p of module.parameters())
        if (p.kind === 'dense') await check(p.name, p.value, await p.grad.data())
      await check('x', x, await dx.data())
    })

    test('contexts are spent once; three axes are kept; state dicts load all or nothing', async () => {
      const module = make(device)
      const x = device.normal([2, 3, width], { seed: 1 })
      const { output, context } = module.forward(x)
      expect(output.shape).toEqual([2, 3, out])
      await errorOf('ERR_SHAPE', () => module.backward(context, device.zeros([2, 3, out + 1])))
      await errorOf('ERR_CONTEXT', () => make(device).backward(context, device.zeros([2, 3, out])))
      expect(module.backward(context, device.zeros([2, 3, out])).shape).toEqual([2, 3, width])
      await errorOf('ERR_CONTEXT', () => module.backward(context, device.zeros([2, 3, out])))
      await errorOf('ERR_SHAPE', () => module.forward(device.zeros([3, width + 1])))
      await errorOf('ERR_STATE_DICT', () => module.loadStateDict({}))
      const other = make(device)
      other.loadStateDict(module.stateDict())
      expect(await other.infer(x).data()).toEqual(await module.infer(x).data())
    })
  })

  test('MixtureOfExperts: each expert takes the tokens with its greatest shares', async () => {
    const [T, C, E, hidden] = [10, 4, 3, 5]
    const moe = new MixtureOfExperts(device, {
      dim: C,
      hiddenDim: hidden,
      experts: E,
      capacity: 1.2,
      seed: 5,
    })
    const each = 4 // ceil(1.2 * 10 / 3)
    const x = device.normal([T, C], { seed: 6 })
    const p = Object.fromEntries(
      await Promise.all(moe.parameters().map(async (q) => [q.name, await q.value.data()] as const)),
    )
    const rows = await x.data()
    const map = (w: Float32Array, b: Float32Array | undefined, input: number[]) =>
      Array.from({ length: w.length / input.length }, (_, o) =>
        input.reduce((sum, v, i) => sum + v * w[o * input.length + i]!, b?.[o] ?? 0),
      )
    const erf = (v: number) => {
      let sum = 0
      for (let i = 0, term = v; i < 60; i++, term *= -(v * v) / i) sum += term / (2 * i + 1)
      return (2 / Math.sqrt(Math.PI)) * sum
    }
    const shares = Array.from({ length: T }, (_, t) => {
      const logits = map(p['router.weight']!, undefined, [
        ...rows.subarray(t * C, (t + 1) * C),
      ]).map(Math.exp)
      return logits.map((v) => v / logits.reduce((a, b) => a + b))
    })
    const wanted = new Float64Array(T * C)
    for (let e = 0; e < E; e++) {
      const taken = shares
        .map((s, t) => [s[e]!, t] as const)
        .sort((a, b) => b[0] - a[0] || a[1] - b[1])
      for (const [share, t] of taken.slice(0, each)) {
        const a = map(p[`experts.${e}.w1.weight`]!, p[`experts.${e}.w1.bias`], [
          ...rows.subarray(t * C, (t + 1) * C),
        ])
        const h = a.map((v) => (v / 2) * (1 + erf(v / Math.SQRT2)))
        for (const [i, v] of map(
          p[`experts.${e}.w2.weight`]!,
          p[`experts.${e}.w2.bias`],
          h,
        ).entries())
          wanted[t * C + i]! += share * v
      }
    }
    expectClose('y', await moe.infer(x).data(), wanted)
  })

  test('Embedding: rows by number, a sparse gradient, a step over the rows that were read', async () => {
    const embedding = new Embedding(device, { count: 7, dim: 3, seed: 1 })
    const rows = await embedding.table.weight.data()
    const tokens = device.tensor(new Int32Array([2, 5, -1, 2]), [2, 2])
    const { output, context } = embedding.forward(tokens)
    expect(output.shape).toEqual([2, 2, 3])
    expect(await output.data()).toEqual(
      Float32Array.of(
        ...rows.subarray(6, 9),
        ...rows.subarray(15, 18),
        0,
        0,
        0,
        ...rows.subarray(6, 9),
      ),
    )
    expect(await embedding.infer([2]).data()).toEqual(rows.slice(6, 9))
    const dy = device.tensor(
      Float32Array.from({ length: 12 }, (_, i) => (i === 5 ? Infinity : i)),
      [2, 2, 3],
    )
    embedding.backward(context, dy)
    tokens.write(new Int32Array(4)) // neither may be read again by the step
    dy.write(new Float32Array(12))
    const gradient = await embedding.table.gradient().data()
    expect(gradient).toEqual({
      rows: Int32Array.of(2, 5),
      values: Float32Array.of(9, 11, 13, 3, 4, Infinity),
    })
    const optimizer = new Sgd(embedding.parameters(), { lr: 1 })
    optimizer.step()
    const after = await embedding.table.weight.data()
    expect(after.subarray(6, 9)).toEqual(rows.subarray(6, 9).map((v, i) => v - [9, 11, 13][i]!))
    expect(after.subarray(0, 6)).toEqual(rows.subarray(0, 6))

    await errorOf('ERR_CONTEXT', () => embedding.backward(context, dy))
    expect(await errorOf('ERR_INDEX_RANGE', () => embedding.forward([0, 7]))).toMatch(
      /"tokens\[1\]" must be in \[0, 7\), got 7/,
    )
    await errorOf('ERR_INDEX_RANGE', () =>
      embedding.forward(device.tensor(new Int32Array([7]))).output.data(),
    )
    await errorOf('ERR_DTYPE', () => embedding.forward(device.tensor([1])))
    await errorOf('ERR_SHAPE', () => embedding.forward(device.zeros([1, 1, 1], 'int32')))
    const other = embedding.forward([1, 2])
    await errorOf('ERR_SHAPE', () => embedding.backward(other.context, device.zeros([3, 3])))
  })

  test('CrossEntropy is the mean, and a small classifier learns with it', async () => {
    const model = new FeedForward(device, { dim: 8, hiddenDim: 32, seed: 3 })
    const head = new Linear(device, { inputDim: 8, outputDim: 3, seed: 4 })
    const loss = new CrossEntropy(device)
    const parameters: Parameter[] = [...model.parameters(), ...head.parameters()]
    const optimizer = new AdamW(parameters, { lr: 1e-2 })
    const x = device.normal([30, 8], { seed: 5 })
    const targets = device.tensor(Int32Array.from({ length: 30 }, (_, i) => i % 3))
    const losses: number[] = []
    for (let step = 0; step < 150; step++) {
      const block = model.forward(x)
      const logits = head.forward(block.output)
      const { loss: mean, context } = loss.forward(logits.output, targets)
      losses.push((await mean.data())[0]!)
      model.backward(block.context, head.backward(logits.context, loss.backward(context)))
      optimizer.step()
      optimizer.zeroGrad()
    }
    expect(losses[0]).toBeGreaterThan(0.9)
    expect(losses[0]).toBeLessThan(1.5)
    expect(losses.at(-1)).toBeLessThan(0.05)
  })

  test('options are checked', async () => {
    expect(
      await errorOf('ERR_OPTION', () => new Linear(device, { inputDim: 1, outputdim: 2 } as never)),
    ).toMatch(/"outputDim"/)
    expect(
      await errorOf('ERR_OPTION', () => new FeedForward(device, { dim: 1, hidenDim: 2 } as never)),
    ).toMatch(/"hiddenDim"/)
    await errorOf(
      'ERR_VALUE',
      () => new FeedForward(device, { dim: 1, hiddenDim: 2, activation: 'tanh' as never }),
    )
    await errorOf('ERR_VALUE', () => new RmsNorm(device, { dim: 0 }))
  })
})
