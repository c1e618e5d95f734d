// The gradients of every recorded operation are those of its explicit backward, bit for bit.

import { describe, expect, test } from 'vitest'
import { ops, type Tensor, ValueTable } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'

onEveryDevice((device) => {
  const random = (shape: number[], seed: number) => device.normal(shape, { seed })
  const leaf = (shape: number[], seed: number) => random(shape, seed).requireGrad()
  const ints = (values: number[], shape: number[]) => device.tensor(values, shape, 'int32')
  const numbers = async (t: Tensor | undefined) => [...((await t?.data()) ?? [])]

  async function expectSame(got: (Tensor | undefined)[], wanted: (Tensor | undefined)[]) {
    for (const [i, w] of wanted.entries()) {
      expect(await numbers(got[i]), `gradient ${i}`).toEqual(await numbers(w))
      expect(got[i]?.shape).toEqual(w?.shape)
    }
  }

  describe.each(['relu', 'gelu', 'silu', 'sigmoid'] as const)('%s', (name) => {
    test('its backward', async () => {
      const [x, dy] = [leaf([3, 5], 1), random([3, 5], 2)]
      ops[name](x).backward(dy)
      await expectSame([x.grad], [ops[`${name}Backward`](dy, x)])
    })
  })

  test('softmax, rmsNorm with and without a gain, sigmoidGate', async () => {
    const [x, gain, g] = [leaf([3, 5], 1), leaf([5], 3), leaf([3, 1], 4)]
    const dy = random([3, 5], 2)
    const grad = () => {
      const copy = x.grad?.to('float32')
      x.grad?.dispose()
      return copy
    }
    const y = ops.softmax(x)
    const values = device.tensor(await y.data(), [3, 5])
    y.backward(dy)
    await expectSame([grad()], [ops.softmaxBackward(dy, values)])
    ops.rmsNorm(x, gain, { eps: 0.01 }).backward(dy)
    const { dx, dGain } = ops.rmsNormBackward(dy, x, gain, { eps: 0.01 })
    await expectSame([grad(), gain.grad], [dx, dGain])
    ops.rmsNorm(x).backward(dy)
    await expectSame([grad()], [ops.rmsNormBackward(dy, x).dx])
    ops.sigmoidGate(x, g).backward(dy)
    const gate = ops.sigmoidGateBackward(dy, x, g)
    await expectSame([grad(), g.grad], [gate.dy, gate.dg])
  })

  test('linear, of 16 bits too, and where only some inputs require a gradient', async () => {
    const [x, w, b] = [random([3, 5], 1), leaf([4, 5], 2), leaf([4], 3)]
    const dy = random([3, 4], 4)
    ops.linear(x, w, b).backward(dy)
    const { dx, dWeight, dBias } = ops.linearBackward(dy, x, w)
    await expectSame([w.grad, b.grad, x.grad], [dWeight, dBias, undefined])
    x.requireGrad()
    const constant = random([4, 5], 2)
    ops.linear(x, constant).backward(dy)
    await expectSame([x.grad], [dx])
    const [x16, w16] = [leaf([3, 5], 1).to('bfloat16'), leaf([4, 5], 2).to('bfloat16')]
    for (const t of [x16, w16]) t.requireGrad()
    ops.linear(x16, w16).backward(dy)
    const half = ops.linearBackward(dy, x16, w16)
    await expectSame([x16.grad, w16.grad], [half.dx, half.dWeight])
  })

  test('attention with its options', async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => leaf([2, 3, 2, 4], seed)) as [Tensor, Tensor, Tensor]
    const options = { scale: 0.3, causal: false }
    const dy = random([2, 3, 2, 4], 4)
    const { y, lse } = ops.attention(q, k, v, options)
    expect([y.requiresGrad, lse.requiresGrad]).toEqual([true, false])
    const [yv, lsev] = [await y.data(), await lse.data()]
    y.backward(dy)
    const saved = { q, k, v, y: device.tensor(yv, y.shape), lse: device.tensor(lsev, lse.shape) }
    const { dq, dk, dv } = ops.attentionBackward(dy, saved, options)
    await expectSame([q.grad, k.grad, v.grad], [dq, dk, dv])
  })

  test('crossEntropy', async () => {
    const logits = leaf([4, 5], 1)
    const [targets, dy] = [ints([0, -1, 4, 2], [4]), random([4], 2)]
    ops.crossEntropy(logits, targets).backward(dy)
    await expectSame([logits.grad], [ops.crossEntropyBackward(dy, logits, targets)])
  })

  test.each(['softmax', 'sigmoid', 'relu', 'none'] as const)('a lookup, %s', async (gate) => {
    const [query, keys] = [leaf([3, 2, 2, 4], 1), leaf([2, 2, 5, 4], 2)]
    const dWeights = random([3, 2, 4], 3)
    const lookup = ops.productKeyLookup(query, keys, { knn: 4, gate })
    const { scores, indices, weights } = lookup
    expect([scores, indices, weights].map((t) => t.requiresGrad)).toEqual([false, false, true])
    const again = ops.productKeyLookup(random([3, 2, 2, 4], 1), random([2, 2, 5, 4], 2), {
      knn: 4,
      gate,
    })
    weights.backward(dWeights)
    const wanted = ops.productKeyLookupBackward(again, dWeights, { query, keys })
    await expectSame([query.grad, keys.grad], [wanted.dQuery, wanted.dKeys])
  })

  describe('embeddingBag', () => {
    const indices = [2, 0, -1, 1, 2, 2]
    const offsets = () => ints([0, 1, 1, 6], [4])

    test.each([
      ['bags of 2', [3, 2], {}],
      ['ragged bags', [6], { offsets: true }],
    ] as const)('%s: a dense gradient, or a read queued at the table', async (_, shape, bags) => {
      const options = 'offsets' in bags ? { offsets: offsets() } : {}
      const places = ints(indices, [...shape])
      const weights = leaf([...shape], 1)
      const table = new ValueTable(device, { slots: 4, dim: 3 })
      const dy = random([3, 3], 2)
      const explicit = ops.embeddingBagBackward(dy, table.weight, places, weights, options)

      const y = ops.embeddingBag(table.weight, places, weights, options)
      places.write(new Int32Array(6)) // written before the backward
      await expect(async () => y.backward(dy)).rejects.toMatchObject({ code: 'ERR_CONTEXT' })
      places.write(indices)
      ops.embeddingBag(table.weight, indices, weights, options).backward(dy)
      await expectSame([weights.grad], [explicit.dWeights])
      expect(table.pendingReads).toBe(1)
      expect(await table.gradient().data()).toEqual(await explicit.dTable.data())
      expect(table.weight.grad).toBeUndefined()

      const plain = device.tensor(await table.weight.data(), [4, 3]).requireGrad()
      ops.embeddingBag(plain, places, weights, options).backward(dy)
      await expectSame([plain.grad], [explicit.dTable.toDense()])
    })

    test('a void ragged read counts for nothing beside a sound one', async () => {
      const table = new ValueTable(device, { slots: 4, dim: 3 })
      const weights = random([6], 1)
      const dy = random([3, 3], 2)
      const read = (o: Tensor, places = indices) =>
        ops.embeddingBag(table.weight, ints(places, [6]), weights, { offsets: o }).backward(dy)
      read(offsets())
      const wanted = await table.gradient().data()
      read(offsets(), [0, 0, 0, 9, 0, 0])
      expect(await table.gradient().data()).toEqual(wanted)
      await device.synchronize().catch(() => undefined)
    })

    test('int8 rows have no gradient, their weights do', async () => {
      const table = new ValueTable(device, { slots: 4, dim: 3, dtype: 'int8' })
      table.weight.write(Int8Array.from({ length: 12 }, (_, i) => i))
      expect(table.weight.requiresGrad).toBe(false)
      const weights = leaf([3, 2], 1)
      const scales = table.scales!
      ops.embeddingBag(table.weight, indices, weights, { scales }).backward(random([3, 3], 2))
      expect((await numbers(weights.grad)).some((v) => v !== 0)).toBe(true)
    })
  })

  test('peer: dense gradients, or reads queued at the tables', async () => {
    const [T, L, Ci, Co] = [3, 2, 4, 5]
    const [x, weights] = [leaf([T, Ci], 1), leaf([T, L], 2)]
    const indices = ints([0, 2, 2, -1, 1, 0], [T, L])
    const [down, up] = [random([3, Ci], 3), random([3, Co], 4)]
    const dOut = random([T, Co], 5)
    const { u } = ops.peer(random([T, Ci], 1), down, up, indices, random([T, L], 2))
    const saved = { x, down, up, indices, weights, u }
    const wanted = ops.peerBackward(dOut, saved)

    const tables = [new ValueTable(device, { slots: 3, dim: Ci }), undefined] as const
    tables[0].load(down)
    up.requireGrad()
    ops.peer(x, tables[0].weight, up, indices, weights).output.backward(dOut)
    await expectSame(
      [x.grad, weights.grad, up.grad],
      [wanted.dx, wanted.dWeights, wanted.dUp.toDense()],
    )
    expect(await tables[0].gradient().data()).toEqual(await wanted.dDown.data())
  })

  test('views and copies: reshape, rows, to', async () => {
    const x = leaf([4, 3], 1)
    const y = x.reshape([2, 6]).rows(1, 2).reshape([6])
    ops
      .add(y, x.to(device).rows(0, 2).reshape([6]), { beta: 4 })
      .backward(device.tensor([1, 2, 3, 4, 5, 6]))
    expect(await numbers(x.grad)).toEqual([4, 8, 12, 16, 20, 24, 1, 2, 3, 4, 5, 6])
  })
})
