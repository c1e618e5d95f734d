// `out` and `out: { … }`: every operation writes the bits of new tensors into those it is given,
// and refuses tensors of another shape or dtype.

import { describe, expect, test } from 'vitest'
import { ops, type Tensor } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

onEveryDevice((device) => {
  const random = (...shape: number[]) =>
    device.normal(shape, { seed: shape.reduce((a, b) => a * 31 + b, 7) })
  const query = random(5, 2, 2, 4)
  const keys = random(2, 2, 6, 4)
  const lookup = ops.productKeyLookup(query, keys, { knn: 3 })
  const dWeights = random(5, 2, 3)
  const table = random(36, 7)
  const indices = lookup.indices.reshape([5, 6])
  const weights = lookup.weights.reshape([5, 6])
  const dy = random(5, 7)
  const x = random(5, 4)
  const w = random(3, 4)
  const maps = random(2, 3, 4)
  const groups = device.tensor(Int32Array.of(0, 4, 5))
  const down = random(36, 4)
  const u = ops.peer(x, down, table, indices, weights).u
  const saved = { x, down, up: table, indices, weights, u }

  type Results = Record<string, Tensor>
  const calls: Record<string, (out?: Results) => object> = {
    topK: (out) => ops.topK(dy, 2, out && { out }),
    productKeyLookup: (out) => ops.productKeyLookup(query, keys, { knn: 3, ...(out && { out }) }),
    productKeyLookupBackward: (out) =>
      ops.productKeyLookupBackward(lookup, dWeights, { query, keys }, out && { out }),
    embeddingBagBackward: (out) =>
      ops.embeddingBagBackward(dy, table, indices, weights, {
        needs: { table: false },
        ...(out && { out }),
      }),
    linearBackward: (out) =>
      ops.linearBackward(random(5, 3), x, w, {
        needs: { weight: false, bias: false },
        ...(out && { out }),
      }),
    groupByIndex: (out) => ops.groupByIndex(indices, 36, out && { out }),
    groupedLinearBackward: (out) =>
      ops.groupedLinearBackward(random(5, 3), x, maps, groups, {
        needs: { weights: false, bias: false },
        ...(out && { out }),
      }),
    siluGateBackward: (out) => ops.siluGateBackward(dy, dy, dy, out && { out }),
    sigmoidGateBackward: (out) => ops.sigmoidGateBackward(dy, dy, random(5, 1), out && { out }),
    rmsNormBackward: (out) => ops.rmsNormBackward(dy, dy, undefined, out && { out }),
    layerNormBackward: (out) =>
      ops.layerNormBackward(dy, dy, undefined, { needs: { bias: false }, ...(out && { out }) }),
    causalConv1dBackward: (out) =>
      ops.causalConv1dBackward(random(1, 5, 4), random(1, 5, 4), random(4, 2), {
        needs: { weight: false, bias: false },
        ...(out && { out }),
      }),
    peer: (out) => ops.peer(x, down, table, indices, weights, out && { out }),
    peerBackward: (out) => {
      const { dDown: _, dUp: __, ...rest } = ops.peerBackward(dy, saved, out && { out })
      return rest
    },
  }
  const tensorsOf = (r: object) =>
    Object.fromEntries(Object.entries(r).filter(([, v]) => typeof v === 'object')) as Results

  describe.each(Object.entries(calls))('%s', (_, call) => {
    test('writes into every output it is given', async () => {
      const fresh = tensorsOf(call())
      const out: Results = {}
      for (const [name, t] of Object.entries(fresh))
        out[name] = device.tensor(new Array(t.size).fill(3), t.shape, t.dtype)
      const returned = tensorsOf(call(out))
      for (const [name, t] of Object.entries(fresh)) {
        expect(returned[name], name).toBe(out[name])
        expect(await out[name]!.data(), name).toEqual(await t.data())
      }
    })

    test('refuses an output of another shape or dtype, or of an unknown name', async () => {
      for (const [name, t] of Object.entries(tensorsOf(call()))) {
        const longer = device.zeros([t.size + 1], t.dtype)
        const other = device.zeros(t.shape, t.dtype === 'float32' ? 'int32' : 'float32')
        const argument = `"out.${name}"`
        expect(await errorOf('ERR_SHAPE', () => call({ [name]: longer }))).toContain(argument)
        expect(await errorOf('ERR_DTYPE', () => call({ [name]: other }))).toContain(argument)
      }
      await errorOf('ERR_OPTION', () => call({ valuez: dy }))
    })
  })
})
