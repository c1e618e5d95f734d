import { describe, expect, test } from 'vitest'
import { AdamW, type Device, type Parameter, Sgd } from '../lib/index.js'
import {
  Attention,
  CrossEntropy,
  Embedding,
  type ExplicitModule,
  FeedForward,
  Linear,
  MixtureOfExperts,
  RmsNorm,
} from '../lib/nn/index.js'
import { activations } from './reference/activation.js'
import { crossEntropy, crossEntropyBackward } from './reference/cross-entropy.js'
import * as reference from './reference/linear.js'
import { softmax } from './reference/softmax.js'
import { topK } from './reference/topk.js'
import { expectClose } from './support/close.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { dot, expectDirectionalGradient } from './support/finite-differences.js'
import { rowsOf, stack } from './support/rows.js'

const modules: [string, (d: Device) => ExplicitModule, number, number][] = [
  ['Linear', (d) => new Linear(d, { inputDim: 6, outputDim: 5, seed: 1 }) as ExplicitModule, 6, 5],
  [
    'Linear without bias',
    (d) => new Linear(d, { inputDim: 6, outputDim: 5, bias: false }) as ExplicitModule,
    6,
    5,
  ],
  [
    'FeedForward gelu',
    (d) => new FeedForward(d, { dim: 6, hiddenDim: 9, seed: 1 }) as ExplicitModule,
    6,
    6,
  ],
  [
    'FeedForward silu',
    (d) => new FeedForward(d, { dim: 6, hiddenDim: 9, activation: 'silu' }) as ExplicitModule,
    6,
    6,
  ],
  ['RmsNorm', (d) => new RmsNorm(d, { dim: 6 }) as ExplicitModule, 6, 6],
  ['Attention', (d) => new Attention(d, { dim: 6, heads: 2, seed: 2 }) as ExplicitModule, 6, 6],
  [
    'Attention both ways',
    (d) => new Attention(d, { dim: 6, heads: 3, causal: false }) as ExplicitModule,
    6,
    6,
  ],
  [
    'Attention with shared keys',
    (d) =>
      new Attention(d, { dim: 6, heads: 4, kvHeads: 2, headDim: 5, seed: 3 }) as ExplicitModule,
    6,
    6,
  ],
  // Every expert has the capacity for every token, so that no step changes the selection.
  [
    'MixtureOfExperts',
    (d) =>
      new MixtureOfExperts(d, {
        dim: 6,
        hiddenDim: 5,
        experts: 3,
        capacity: 3,
        seed: 1,
      }) as ExplicitModule,
    6,
    6,
  ],
]

onEveryDevice((device) => {
  describe.each(modules)('%s', (_, make, width, out) => {
    test('every gradient equals finite differences', async () => {
      const module = make(device)
      const x = device.normal([4, width], { seed: 1 })
      const dy = device.normal([4, out], { seed: 2 })
      const dyData = await dy.data()
      const { output, context } = module.forward(x)
      expect(await output.data()).toEqual(await module.infer(x).data())
      const dx = module.backward(context, dy)
      const evaluate = async () => ({ loss: dot(dyData, await module.infer(x).data()) })
      const options = { steps: [1e-2], tolerance: 2e-3 }
      for (const p of module.parameters())
        if (p.kind === 'dense')
          await expectDirectionalGradient(p.name, await p.grad.data(), evaluate, p.value, options)
      await expectDirectionalGradient('x', await dx.data(), evaluate, x, options)
    })

    test('a context is spent once, and belongs to its module', async () => {
      const module = make(device)
      const { context } = module.forward(device.normal([2, 3, width], { seed: 1 }))
      const dy = () => device.zeros([2, 3, out])
      await errorOf('ERR_SHAPE', () => module.backward(context, device.zeros([2, 3, out + 1])))
      await errorOf('ERR_CONTEXT', () => make(device).backward(context, dy()))
      expect(module.backward(context, dy()).shape).toEqual([2, 3, width])
      await errorOf('ERR_CONTEXT', () => module.backward(context, dy()))
    })

    test('leading axes are kept; another width is refused', async () => {
      const module = make(device)
      const { output } = module.forward(device.normal([2, 3, width], { seed: 1 }))
      expect(output.shape).toEqual([2, 3, out])
      await errorOf('ERR_SHAPE', () => module.forward(device.zeros([3, width + 1])))
    })

    test('a state dict loads, and one without its names is refused', async () => {
      const [module, other] = [make(device), make(device)]
      const x = device.normal([2, 3, width], { seed: 1 })
      await errorOf('ERR_STATE_DICT', () => module.loadStateDict({}))
      other.loadStateDict(module.stateDict())
      expect(await other.infer(x).data()).toEqual(await module.infer(x).data())
    })
  })

  test('MixtureOfExperts: each expert serves the tokens with its largest gates', async () => {
    const [T, C, E, hidden] = [10, 4, 3, 5]
    const capacity = 1.2
    const moe = new MixtureOfExperts(device, {
      dim: C,
      hiddenDim: hidden,
      experts: E,
      capacity,
      seed: 5,
    })
    const x = device.normal([T, C], { seed: 6 })
    const parameters = new Map<string, Float32Array>()
    for (const p of moe.parameters()) parameters.set(p.name, (await p.value.data()) as Float32Array)
    const linear = (input: ArrayLike<number>, name: string, I: number, O: number) => {
      const [weight, bias] = [parameters.get(`${name}.weight`)!, parameters.get(`${name}.bias`)]
      return reference.linear(input, weight, bias, input.length / I, I, O)
    }

    const tokens = rowsOf((await x.data()) as Float32Array, C)
    const gates = rowsOf(softmax(linear(stack(tokens), 'router', C, E), E), E)
    const wanted = new Float64Array(T * C)
    for (let e = 0; e < E; e++) {
      const served = topK(
        gates.map((gate) => gate[e]!),
        Math.ceil((capacity * T) / E),
      )
      for (const t of served) {
        const h = linear(tokens[t]!, `experts.${e}.w1`, C, hidden).map(activations.gelu.f)
        const y = linear(h, `experts.${e}.w2`, hidden, C)
        for (const [c, v] of y.entries()) wanted[t * C + c]! += gates[t]![e]! * v
      }
    }
    expectClose('y', await moe.infer(x).data(), wanted)
  })

  describe('Embedding', () => {
    const make = () => new Embedding(device, { count: 7, dim: 3, seed: 1 })

    test('reads rows by number; padding reads zeros', async () => {
      const embedding = make()
      const rows = rowsOf((await embedding.table.weight.data()) as Float32Array, 3)
      const { output } = embedding.forward(device.tensor(new Int32Array([2, 5, -1, 2]), [2, 2]))
      expect(output.shape).toEqual([2, 2, 3])
      const wanted = [rows[2]!, rows[5]!, new Float32Array(3), rows[2]!]
      expect(await output.data()).toEqual(stack(wanted))
      expect(await embedding.infer([2]).data()).toEqual(rows[2])
    })

    test('has a sparse gradient, and a step changes only the rows that were read', async () => {
      const embedding = make()
      const before = rowsOf((await embedding.table.weight.data()) as Float32Array, 3)
      const tokens = device.tensor(new Int32Array([2, 5, -1, 2]), [2, 2])
      const { context } = embedding.forward(tokens)
      const dy = device.tensor([0, 1, 2, 3, 4, Infinity, 6, 7, 8, 9, 10, 11], [2, 2, 3])

      embedding.backward(context, dy)
      tokens.write(new Int32Array(4)) // the step must read neither again
      dy.write(new Float32Array(12))

      expect(await embedding.table.gradient().data()).toEqual({
        rows: Int32Array.of(2, 5),
        values: Float32Array.of(0 + 9, 1 + 10, 2 + 11, 3, 4, Infinity),
      })
      new Sgd(embedding.parameters(), { lr: 1 }).step()
      const after = rowsOf((await embedding.table.weight.data()) as Float32Array, 3)
      expect(after[2]).toEqual(before[2]!.map((v, c) => v - [9, 11, 13][c]!))
      expect(after.slice(0, 2)).toEqual(before.slice(0, 2))
    })

    test('tokens, dy and contexts are checked', async () => {
      const embedding = make()
      const message = await errorOf('ERR_INDEX_RANGE', () => embedding.forward([0, 7]))
      expect(message).toContain('"tokens"[1]')
      expect(message).toContain('[0, 7)')
      const outside = embedding.forward(device.tensor(new Int32Array([7]))).output
      await errorOf('ERR_INDEX_RANGE', () => outside.data())
      await errorOf('ERR_DTYPE', () => embedding.forward(device.tensor([1])))
      await errorOf('ERR_SHAPE', () => embedding.forward(device.zeros([1, 1, 1], 'int32')))
      const { context } = embedding.forward([1, 2])
      await errorOf('ERR_SHAPE', () => embedding.backward(context, device.zeros([3, 3])))
      embedding.backward(context, device.zeros([2, 3]))
      await errorOf('ERR_CONTEXT', () => embedding.backward(context, device.zeros([2, 3])))
    })
  })

  test('CrossEntropy is the mean over the targets that count, and so is its gradient', async () => {
    const logits = device.normal([4, 3], { seed: 1 })
    const loss = new CrossEntropy(device)
    const of = async (targets: number[], options?: { ignoreIndex: number }) => {
      const kept = device.tensor(Int32Array.from(targets))
      const { loss: mean, context } = loss.forward(logits, kept, options)
      return { mean: (await mean.data())[0]!, dLogits: await loss.backward(context).data() }
    }
    const padded = await of([2, -1, 0, -100])
    const wanted = crossEntropy(await logits.data(), [2, -1, 0, -1], 3)
    expect(padded.mean).toBeCloseTo((wanted[0]! + wanted[2]!) / 2, 5)
    expect(await of([2, 1, 0, 1], { ignoreIndex: 1 })).toEqual(padded)
    expect(padded.dLogits.slice(3, 6)).toEqual(new Float32Array(3))
    const dLosses = [0.5, 0, 0.5, 0]
    const dWanted = crossEntropyBackward(dLosses, await logits.data(), [2, -1, 0, -1], 3)
    expectClose('dLogits', padded.dLogits, dWanted)
    await errorOf('ERR_VALUE', () => of([-1, -1, -100, -1]))
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
