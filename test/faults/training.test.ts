// A faulty batch, and void gradients: updates that depend on them are skipped whole.

import { expect, test } from 'vitest'
import {
  AdamW,
  clipGradNorm,
  type Device,
  MemoryLayer,
  ops,
  PeerLayer,
  RowwiseAdagrad,
  Sgd,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { Embedding } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { faulty, numbersOf } from '../support/faults.js'
import { gradientsOf, valuesOf } from '../support/layers.js'

const code = 'ERR_INDEX_RANGE'
const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 8, keyDim: 8, seed: 1 }

/** Drops what synchronize() has to report. */
async function reportAll(device: Device): Promise<void> {
  while (await device.synchronize().catch((error) => error));
}

/** An input [8, 16] that is void. */
function voidInput(device: Device): Tensor {
  const x = device.normal([8, 16], { seed: 7 })
  x.rows(3, 4).reshape([8, 2]).rows(0, 1).copyFrom(faulty(device))
  return x
}

onEveryDevice((device) => {
  for (const Layer of [MemoryLayer, PeerLayer])
    test(`a batch that is void trains nothing of a ${Layer.name}`, async () => {
      const x = device.normal([8, 16], { seed: 1 })
      const dy = device.normal([8, 16], { seed: 2 })
      const train = async (disturb: boolean) => {
        const layer = new Layer(device, options)
        const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
        const batch = (input: Tensor, gradient: Tensor) => {
          const { output, context } = layer.forward(input)
          return [output, layer.backward(context, gradient)]
        }
        const outputs: Tensor[] = []
        const disturbance = () => {
          if (!disturb) return
          const [, dx] = batch(x, voidInput(device))
          outputs.push(...batch(voidInput(device), dy), dx as Tensor)
        }
        batch(x, dy)
        disturbance()
        optimizer.step()
        disturbance()
        batch(x, dy)
        optimizer.step()
        optimizer.zeroGrad()
        disturbance()
        optimizer.step()
        for (const t of outputs) await errorOf(code, () => t.data())
        await reportAll(device)
        return {
          values: await valuesOf(layer.parameters()),
          gradients: await gradientsOf(layer.parameters()),
          states: await Promise.all(Object.values(optimizer.stateDict()).map(numbersOf)),
        }
      }
      expect(await train(true)).toEqual(await train(false))
    })

  test('a void read of a table counts for nothing; the reads beside it are applied', async () => {
    for (const make of [Sgd, RowwiseAdagrad, AdamW]) {
      const train = async (tokens: readonly (readonly number[])[]) => {
        const embedding = new Embedding(device, { count: 6, dim: 4, seed: 1 })
        const optimizer = new make(embedding.parameters(), { lr: 0.5 })
        for (const [i, list] of tokens.entries()) {
          const indices = device.tensor(Int32Array.from(list))
          const { context } = embedding.forward(indices)
          embedding.backward(context, device.normal([list.length, 4], { seed: i }))
        }
        clipGradNorm(embedding.parameters(), 0.1)
        optimizer.step()
        await reportAll(device)
        expect(embedding.table.pendingReads).toBe(2)
        return numbersOf(embedding.table.weight)
      }
      const sound = [
        [1, 2, 2],
        [5, 1, 3],
      ]
      expect(await train([...sound, [0, 1, 77]])).toEqual(await train(sound))
    }
  })

  test('a void clip leaves an earlier clip as it was', async () => {
    const train = async (disturb: boolean) => {
      const layer = new MemoryLayer(device, options)
      layer.backward(
        layer.forward(device.normal([8, 16], { seed: 1 })).context,
        device.normal([8, 16], { seed: 2 }),
      )
      const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
      clipGradNorm(layer.parameters(), 1e-3)
      if (disturb) {
        const grad = device.zeros([1, 2]).copyFrom(faulty(device))
        const own = { name: 'own', kind: 'dense' as const, value: device.zeros([1, 2]), grad }
        const norm = clipGradNorm([...layer.parameters(), own], 1e-6)
        await errorOf(code, () => norm.data())
      }
      const gradients = await gradientsOf(layer.parameters())
      optimizer.step()
      return { gradients, values: await valuesOf(layer.parameters()) }
    }
    expect(await train(true)).toEqual(await train(false))
  })

  test('a parameter whose gradient is void keeps its value; the others are updated', async () => {
    const parameter = (name: string, grad: Tensor<'float32'>) => ({
      name,
      kind: 'dense' as const,
      value: device.tensor([1, 2], [1, 2]),
      grad,
    })
    const [a, b] = [parameter('a', faulty(device)), parameter('b', device.tensor([1, 1], [1, 2]))]
    const optimizer = new AdamW([a, b], { lr: 0.5 })
    optimizer.step()
    expect(await numbersOf(a.value)).toEqual([1, 2])
    expect((await numbersOf(b.value))[0]).toBeCloseTo(0.5)
    await reportAll(device)
    const { step, ...moments } = optimizer.stateDict()
    expect(await numbersOf(step!)).toEqual([1])
    expect(await numbersOf(moments['0.a.exp_avg']!)).toEqual([0, 0])
  })

  test('a gradient of a void dy is void; one that is added to keeps its terms', async () => {
    const [x, w, dy] = [device.zeros([1, 2]), device.zeros([2, 2]), faulty(device)]
    const { dWeight } = ops.linearBackward(dy, x, w)
    await errorOf(code, () => dWeight!.data())
    const into = device.tensor([1, 2, 3, 4], [2, 2])
    const { dx } = ops.linearBackward(dy, x, w, { into: { weight: into } })
    await errorOf(code, () => dx!.data())
    expect(await numbersOf(into)).toEqual([1, 2, 3, 4])
  })

  test('a sparse gradient is void as its read is', async () => {
    const table = new ValueTable(device, { slots: 4, dim: 2 })
    const [dy, one] = [device.normal([1, 2], { seed: 1 }), device.zeros([1, 1])]
    const bad = device.tensor(Int32Array.from([9]), [1, 1])
    const good = device.tensor(Int32Array.from([3]), [1, 1])
    const gradients = [
      ops.embeddingBagBackward(dy, table.weight, bad, one),
      ops.embeddingBagBackward(faulty(device), table.weight, good, one),
    ]
    for (const { dTable } of gradients) {
      await errorOf(code, () => dTable.data())
      await errorOf(code, () => dTable.toDense().data())
    }
    await reportAll(device)
    expect(
      (await ops.embeddingBagBackward(dy, table.weight, good, one).dTable.data()).rows,
    ).toEqual(Int32Array.of(3))
  })
})
