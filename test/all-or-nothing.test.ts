// Calls that change several tensors change all of them or none: whichever allocation fails, and
// whichever argument is wrong.

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
  Sgd,
  type StateDict,
  type Tensor,
  ValueTable,
} from '../lib/index.js'
import {
  Attention,
  CrossEntropy,
  Embedding,
  FeedForward,
  Linear,
  MixtureOfExperts,
  RmsNorm,
} from '../lib/nn/index.js'
import { denseParameter } from '../lib/parameter.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { failNext, failureCalls, stopFailing } from './support/failures.js'
import { gradientsOf, valuesOf } from './support/layers.js'

type Numbers = ArrayLike<number>

/** What a test compares: every number, by name. */
type State = () => Promise<unknown>

/** Numbers of a state dict. */
async function numbersOf(state: StateDict): Promise<Record<string, Numbers>> {
  const entries = Object.entries(state)
  const data = await Promise.all(entries.map(([, t]) => t.data()))
  return Object.fromEntries(entries.map(([name], i) => [name, data[i]!]))
}

function stateOf(parameters: readonly Parameter[], optimizer?: Optimizer): State {
  return async () => ({
    values: await valuesOf(parameters),
    gradients: await gradientsOf(parameters),
    pending: parameters.map((p) => (p.kind === 'table' ? p.table.pendingReads : 0)),
    optimizer: optimizer && (await numbersOf(optimizer.stateDict())),
  })
}

interface Call {
  state: State
  /** The result, if there is one, is compared as well. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most calls return nothing
  run: () => Tensor | undefined | void
}

/**
 * Runs a call once for each of its allocations, which fails, then whole. After each failure the
 * state must be as before; in the end it must be that of a twin that was called once.
 */
async function expectAllOrNothing(device: Device, build: () => Call): Promise<void> {
  const make = () => device.seeds.within(1, build)
  const twin = make()
  const wanted = [await twin.run()?.data(), await twin.state()]
  const call = make()
  const before = await call.state()
  for (let after = 0; ; after++) {
    failNext({ kind: 'allocation', after })
    let result = undefined as Tensor | undefined
    let error: unknown
    try {
      result = call.run() ?? undefined
    } catch (e) {
      error = e
    }
    const failed = failureCalls('allocation') > after
    stopFailing('allocation')
    if (!failed) {
      expect(error).toBeUndefined()
      expect([await result?.data(), await call.state()]).toEqual(wanted)
      return
    }
    expect(error).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
    expect(await call.state(), `after allocation ${after} has failed`).toEqual(before)
  }
}

const memory = { inputDim: 8, heads: 2, knn: 3, nKeys: 4, keyDim: 8, seed: 1 }

// biome-ignore lint/suspicious/noExplicitAny: layers with contexts of several kinds
const layers: Record<string, (d: Device) => any> = {
  MemoryLayer: (d) => new MemoryLayer(d, { ...memory, outputGate: true, queryNorm: 'rms' }),
  PeerLayer: (d) => new PeerLayer(d, memory),
  Linear: (d) => new Linear(d, { inputDim: 8, outputDim: 8 }),
  RmsNorm: (d) => new RmsNorm(d, { dim: 8 }),
  FeedForward: (d) => new FeedForward(d, { dim: 8, hiddenDim: 8 }),
  Attention: (d) => new Attention(d, { dim: 8, heads: 2 }),
  MixtureOfExperts: (d) => new MixtureOfExperts(d, { dim: 8, hiddenDim: 8, experts: 2 }),
}

onEveryDevice((device) => {
  const x = () => device.normal([2, 3, 8], { seed: 1 })
  const dy = () => device.normal([2, 3, 8], { seed: 2 })

  describe.each(Object.entries(layers))('%s', (_, make) => {
    test('backward', () =>
      expectAllOrNothing(device, () => {
        const layer = make(device)
        const { context } = layer.forward(x())
        const gradient = dy()
        return {
          state: stateOf(layer.parameters()),
          run: () => layer.backward(context, gradient),
        }
      }))

    test('loadStateDict', () =>
      expectAllOrNothing(device, () => {
        const from = make(device).stateDict() as StateDict
        const state = Object.fromEntries(
          Object.entries(from).map(([name, t]) => [name, device.normal(t.shape, { seed: 7 })]),
        )
        const layer = make(device)
        return { state: stateOf(layer.parameters()), run: () => layer.loadStateDict(state) }
      }))

    test('a constructor that fails holds no memory', async () => {
      make(device).dispose()
      await device.synchronize()
      const before = device.memory().allocated
      for (let after = 0; ; after++) {
        failNext({ kind: 'allocation', after })
        try {
          make(device).dispose()
          if (failureCalls('allocation') <= after) break
          expect.fail('it did not fail')
        } catch (e) {
          expect(e).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
        } finally {
          stopFailing('allocation')
        }
        expect(device.memory().allocated).toBe(before)
      }
    })
  })

  test('backward of an embedding and of a loss', async () => {
    await expectAllOrNothing(device, () => {
      const embedding = new Embedding(device, { count: 5, dim: 8 })
      const { context } = embedding.forward([0, 1, 4, -1, 2, 3])
      const gradient = dy().reshape([6, 8])
      const run = () => embedding.backward(context, gradient)
      return { state: stateOf(embedding.parameters()), run }
    })
    await expectAllOrNothing(device, () => {
      const loss = new CrossEntropy(device)
      const targets = device.tensor(Int32Array.of(0, 1, 2, 3, 4, 5))
      const { context } = loss.forward(x().reshape([6, 8]), targets)
      return { state: async () => 0, run: () => loss.backward(context) }
    })
  })

  test('backward of what was recorded', () =>
    expectAllOrNothing(device, () => {
      const embedding = new Embedding(device, { count: 8, dim: 8 })
      const blocks = Object.values(layers).map((make) => make(device))
      const head = new Linear(device, { inputDim: 8, outputDim: 8, weight: embedding.table })
      const input = x().requireGrad()
      let h: Tensor = ops.add(input, embedding.apply([0, 1, 4, -1, 2, 3]).reshape([2, 3, 8]))
      for (const block of blocks) h = ops.add(h, block.apply(h))
      const y = ops.softmax(head.apply(h))
      const gradient = dy()
      const state = stateOf([embedding, ...blocks, head].flatMap((m) => m.parameters()))
      return {
        state: async () => [await state(), await input.grad?.data()],
        run: () => y.backward(gradient),
      }
    }))

  /** Two tables, one of 16 bits, and dense parameters, with gradients of everything. */
  function training(): { parameters: readonly Parameter[]; optimizer: Optimizer } {
    const layer = new MemoryLayer(device, { ...memory, dtype: 'bfloat16' })
    const peer = new PeerLayer(device, memory)
    for (const l of [layer, peer]) l.backward(l.forward(x()).context, dy())
    const parameters = [...layer.parameters(), ...peer.parameters()]
    return { parameters, optimizer: new AdamW(parameters, { lr: 0.01 }) }
  }

  test('step, clipGradNorm and zeroGrad', async () => {
    for (const call of ['step', 'clip', 'zeroGrad'] as const)
      await expectAllOrNothing(device, () => {
        const { parameters, optimizer } = training()
        return {
          state: stateOf(parameters, optimizer),
          run: () => {
            if (call === 'step') optimizer.step()
            if (call === 'clip') return clipGradNorm(parameters, 0.01)
            if (call === 'zeroGrad') optimizer.zeroGrad()
          },
        }
      })
  })

  test("an optimizer's loadStateDict", () =>
    expectAllOrNothing(device, () => {
      const { parameters, optimizer } = training()
      const other = training().optimizer
      other.step()
      const state = other.stateDict()
      return { state: stateOf(parameters, optimizer), run: () => optimizer.loadStateDict(state) }
    }))

  test('an optimizer that fails holds no memory, and leaves the tables as they were', async () => {
    const layer = new MemoryLayer(device, { ...memory, dtype: 'float16' })
    const before = device.memory().allocated
    for (let after = 0; ; after++) {
      failNext({ kind: 'allocation', after })
      try {
        new AdamW(layer.parameters(), { lr: 0.01 })
        break
      } catch (e) {
        expect(e).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
      } finally {
        stopFailing('allocation')
      }
      expect(device.memory().allocated).toBe(before)
    }
  })

  test('a step with a gradient of a wrong shape moves nothing', async () => {
    const values = new ValueTable(device, { slots: 16, dim: 8 })
    const layer = new MemoryLayer(device, { ...memory, values })
    layer.backward(layer.forward(x()).context, dy())
    const value = device.normal([3, 4], { seed: 1 })
    for (const grad of [device.zeros([4, 3]), device.zeros([3, 4], 'bfloat16')]) {
      const parameters = [...layer.parameters(), denseParameter('wrong', value, grad as never)]
      let optimizer: Optimizer
      try {
        optimizer = new Sgd(parameters, { lr: 0.1 })
      } catch {
        continue
      }
      const before = await numbersOf(optimizer.stateDict())
      const numbers = await valuesOf(layer.parameters())
      await errorOf(grad.dtype === 'float32' ? 'ERR_SHAPE' : 'ERR_DTYPE', () => optimizer.step())
      expect(await numbersOf(optimizer.stateDict())).toEqual(before)
      expect(await valuesOf(layer.parameters())).toEqual(numbers)
    }
  })
})
