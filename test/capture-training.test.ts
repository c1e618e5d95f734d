// Captured training steps: the same bits as steps that are not captured, faults and all.

import { describe, expect, test } from 'vitest'
import {
  AdamW,
  clipGradNorm,
  type Device,
  MemoryLayer,
  type Optimizer,
  ops,
  type Parameter,
  PeerLayer,
  RowwiseAdagrad,
  ValueTable,
} from '../lib/index.js'
import { Dropout, Embedding, Linear, Transformer } from '../lib/nn/index.js'
import { expectSameTraining, type Trained } from './support/captured.js'
import { onEveryDevice } from './support/devices.js'
import { reportAll } from './support/faults.js'

const makers: [string, (parameters: readonly Parameter[]) => Optimizer][] = [
  ['AdamW', (p) => new AdamW(p, { lr: 0.02, weightDecay: 0.1, tableLr: 0.05 })],
  ['AdamW on every row', (p) => new AdamW(p, { lr: 0.02, tableMode: 'dense' })],
  ['RowwiseAdagrad', (p) => new RowwiseAdagrad(p, { lr: 0.02, tableLr: 0.1 })],
]

/** A memory layer, a PEER layer on its table, and a linear one, each by hand. */
function layers(device: Device, optimizerOf: (p: readonly Parameter[]) => Optimizer): Trained {
  const values = new ValueTable(device, { slots: 36, dim: 8, dtype: 'bfloat16', init: { seed: 1 } })
  const shape = { inputDim: 8, heads: 2, knn: 4, nKeys: 6, keyDim: 8, seed: 2 }
  const memory = new MemoryLayer(device, { ...shape, values, gate: 'silu', queryNorm: 'rms' })
  const peer = new PeerLayer(device, { ...shape, seed: 3 })
  const linear = new Linear(device, { inputDim: 8, outputDim: 8, seed: 4 })
  const parameters = [memory, peer, linear].flatMap((layer) => [...layer.parameters()])
  const optimizer = optimizerOf(parameters)
  const x = device.zeros([5, 8])
  const feed = (i: number) => {
    x.write(Float32Array.from({ length: 40 }, (_, j) => Math.sin(7 * i + j)))
  }
  const step = () => {
    const a = memory.forward(x)
    const b = peer.forward(a.output)
    const c = linear.forward(b.output)
    const dx = [linear.backward(c.context, c.output)]
    dx.unshift(peer.backward(b.context, dx[0]!))
    dx.unshift(memory.backward(a.context, dx[0]!))
    const norm = clipGradNorm(parameters, 0.5, { tables: 'apart' })
    optimizer.step()
    optimizer.zeroGrad()
    for (const t of [a.output, b.output, ...dx.slice(1)]) t.dispose()
    return [c.output, dx[0]!, norm]
  }
  return { optimizer, parameters, feed, step }
}

/** A decoder with dropout, a memory and a PEER layer and a tied head. */
function decoder(device: Device): Trained & { model: Transformer } {
  const model = new Transformer(device, {
    vocabSize: 13,
    dim: 8,
    layers: 2,
    heads: 2,
    contextLength: 4,
    dropout: 0.2,
    tieEmbeddings: true,
    feedForward: (layer) => ({ kind: layer === 0 ? 'swiglu' : 'peer', ...sizes[layer] }) as never,
    memory: { layers: [0], nKeys: 4, heads: 2, knn: 2, keyDim: 4, beside: true },
    seed: 5,
  })
  const parameters = model.parameters()
  const optimizer = new AdamW(parameters, { lr: 0.02 })
  const [tokens, targets] = [0, 1].map(() => device.zeros([2, 4], 'int32'))
  const feed = (i: number) => {
    for (const [k, t] of [tokens, targets].entries())
      t!.write(Int32Array.from({ length: 8 }, (_, j) => (i * 5 + j + k) % 13))
  }
  const step = () => {
    const loss = model.loss(tokens!, targets!)
    loss.backward()
    const norm = clipGradNorm(parameters, 1)
    optimizer.step()
    optimizer.zeroGrad()
    return [loss, norm]
  }
  return { optimizer, parameters, feed, step, model }
}
const sizes = [{ hiddenDim: 12 }, { nKeys: 4, heads: 2, knn: 2, keyDim: 4 }]

/** As small as a step can be that has all of it: dropout, a memory layer, a loss, clipping. */
function smallest(device: Device): Trained {
  const shape = { inputDim: 4, heads: 1, knn: 2, nKeys: 3, keyDim: 4, valueDim: 4 }
  const memory = new MemoryLayer(device, { ...shape, dtype: 'bfloat16', seed: 1 })
  const linear = new Linear(device, { inputDim: 4, outputDim: 3, seed: 2 })
  const dropout = new Dropout(device, { p: 0.3, seed: 3 })
  const parameters = [...memory.parameters(), ...linear.parameters()]
  const optimizer = new AdamW(parameters, { lr: 0.02, weightDecay: 0.1 })
  const x = device.zeros([2, 4])
  const targets = device.zeros([2], 'int32')
  const feed = (i: number) => {
    x.write(Float32Array.from({ length: 8 }, (_, j) => Math.sin(7 * i + j)))
    targets.write(Int32Array.of(i % 3, (i * i) % 3))
  }
  const step = () => {
    const logits = linear.apply(dropout.apply(memory.apply(x)))
    const loss = ops.mean(ops.crossEntropy(logits, targets))
    loss.backward()
    const norm = clipGradNorm(parameters, 0.5)
    optimizer.step()
    optimizer.zeroGrad()
    return [loss, norm]
  }
  return { optimizer, parameters, feed, step }
}

/** Two embeddings whose tokens are out of range at some steps, each at others. */
function faultyEmbeddings(device: Device): Trained {
  const halves = [6, 7].map((seed, k) => {
    const embedding = new Embedding(device, { count: 9, dim: 4, seed })
    const linear = new Linear(device, { inputDim: 4, outputDim: 3, seed })
    const tokens = device.zeros([6], 'int32')
    const feed = (i: number) => {
      const bad = i % (3 + k) === 2
      tokens.write(Int32Array.from({ length: 6 }, (_, j) => (bad && j === 4 ? 99 : (i + j) % 9)))
    }
    return { embedding, linear, tokens, feed }
  })
  const parameters = halves.flatMap(({ embedding, linear }) => [
    ...embedding.parameters(),
    ...linear.parameters(),
  ])
  const optimizer = new AdamW(parameters, { lr: 0.02 })
  const step = () => {
    const losses = halves.map(({ embedding, linear, tokens }) => {
      const loss = ops.mean(linear.apply(embedding.apply(tokens)))
      loss.backward()
      return loss
    })
    optimizer.step()
    optimizer.zeroGrad()
    return losses
  }
  const feed = (i: number) => {
    for (const half of halves) half.feed(i)
  }
  return { optimizer, parameters, feed, step }
}

onEveryDevice((device) => {
  const emulated = device.kind === 'simt'
  const steps = emulated ? 4 : 100 // an emulated GPU has 100 of the smallest

  describe.each(makers)('steps by %s', (_, optimizerOf) => {
    test('of layers by hand are the same in a capture', async () => {
      await expectSameTraining(device, () => layers(device, optimizerOf), steps, emulated ? 2 : 10)
    })
  })

  test('steps of a decoder with dropout are the same in a capture', async () => {
    const models: Transformer[] = []
    const make = () => {
      const made = decoder(device)
      models.push(made.model)
      return made
    }
    await expectSameTraining(device, make, steps, emulated ? 2 : 10)
    expect(models.map((model) => model.position)).toEqual([steps, steps])
  })

  test(
    'a hundred of the smallest steps with dropout are the same in a capture',
    () => expectSameTraining(device, () => smallest(device), 100, 10),
    120_000,
  )

  test('replays and plain steps alternate', async () => {
    const [plain, mixed] = [decoder(device), decoder(device)]
    using step = device.capture(() => mixed.step())
    expect(mixed.model.position).toBe(0)
    for (let i = 0; i < (emulated ? 3 : 6); i++) {
      for (const twin of [plain, mixed]) twin.feed(i)
      if (i === 1) for (const twin of [plain, mixed]) twin.model.position = 40
      if (i === 2) for (const twin of [plain, mixed]) twin.model.seed = 77
      const [wanted] = plain.step()
      const [got] = i % 2 === 0 ? step.replay() : mixed.step()
      expect(await got!.data(), `step ${i}`).toEqual(await wanted!.data())
    }
    expect(mixed.model.position).toBe(plain.model.position)
  })

  test('a fault voids what it voids outside of a capture', async () => {
    const results = await expectSameTraining(device, () => faultyEmbeddings(device), 100, 1)
    const faults = results.flat().filter((r) => typeof r === 'string')
    expect(faults).toHaveLength(33 + 25)
    expect(faults[0]).toMatch(/"indices"\[4\] is 99, outside \[0, 9\)/)
    await reportAll(device)
  })

  test('inputs that are void make void what they make void outside of a capture', async () => {
    const table = device.normal([4, 40], { seed: 1 })
    const run = async (capture: boolean) => {
      const x = device.zeros([1, 40])
      const y = device.zeros([1, 40])
      const work = () => [ops.mul(x, x), ops.add(y, y)]
      const captured = capture ? device.capture(work) : undefined
      const read: unknown[] = []
      for (const index of [1, 9, 2, 9, 3]) {
        const indices = device.tensor(Int32Array.from([index]), [1, 1])
        x.copyFrom(ops.embeddingBag(table, indices, device.tensor([1], [1, 1])))
        for (const t of captured ? captured.replay() : work())
          read.push(await t.data().catch((error: Error) => error.message))
      }
      await reportAll(device)
      captured?.dispose()
      return read
    }
    const wanted = await run(false)
    expect(await run(true)).toEqual(wanted)
    expect(wanted.filter((r) => typeof r === 'string')).toHaveLength(2)
  })

  test('a module of dropout counts on', async () => {
    const run = async (capture: boolean) => {
      const dropout = new Dropout(device, { p: 0.5, seed: 3 })
      const x = device.normal([4, 32], { seed: 1 }).requireGrad()
      const dy = device.normal([4, 32], { seed: 2 })
      const work = () => {
        const y = dropout.apply(dropout.apply(x))
        y.backward(dy)
        return [y, x.grad!]
      }
      const captured = capture ? device.capture(work) : undefined
      const read: unknown[] = []
      for (let i = 0; i < 4; i++) {
        if (!captured) x.grad?.dispose()
        for (const t of captured ? captured.replay() : work()) read.push(await t.data())
      }
      expect(dropout.position).toBe(8)
      return read
    }
    expect(await run(true)).toEqual(await run(false))
  })
})
