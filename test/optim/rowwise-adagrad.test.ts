import { expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import { RowwiseAdagrad } from '../../lib/index.js'
import { Embedding } from '../../lib/nn/index.js'
import { adagrad } from '../reference/adagrad.js'
import { rowwiseAdagrad } from '../reference/rowwise-adagrad.js'
import { onEveryDevice } from '../support/devices.js'
import { expectRule } from '../support/optimizer.js'
import { rowsOf } from '../support/rows.js'

onEveryDevice((device) => {
  test('equals the float64 rule over five steps, touched rows only', () =>
    expectRule(device, {
      optimizer: (p) => new RowwiseAdagrad(p, { lr: 0.1, weightDecay: 0.1 }),
      rule: rowwiseAdagrad,
      denseRule: adagrad,
      hyper: { lr: 0.1, weightDecay: 0.1 },
    }))

  // The squares of dy are no float32 numbers, but those of weight * dy are.
  test.each([
    [1e25, 20],
    [1e25, 200],
    [1e-25, 20],
    [1e-25, 200],
  ])('dy of %d, %d wide, under weights of its inverse', async (scale, V) => {
    const lr = 0.1
    const embedding = new Embedding(device, { count: 3, dim: V, seed: 1 })
    const before = rowsOf(await embedding.table.weight.data(), V)
    const bags = [0, 1].map((bag) =>
      Array.from({ length: V }, (_, c) => ((bag * V + c) % 7 < 3 ? -1 : 2)),
    )
    const dy = device.tensor(
      Float32Array.from(bags.flat(), (v) => scale * v),
      [2, V],
    )
    // Row 2 is read by both bags, row 0 by the second, row 1 by none.
    const indices = device.tensor([2, -1, 2, 0], [2, 2], 'int32')
    const weights = device.tensor([1 / scale, 0, 0.5 / scale, 10 / scale], [2, 2])
    native.tablePush(
      embedding.table.handle,
      indices.handle('test', 'indices'),
      weights.handle('test', 'weights'),
      dy.handle('test', 'dy'),
    )

    new RowwiseAdagrad(embedding.parameters(), { lr }).step()

    const after = rowsOf(await embedding.table.weight.data(), V)
    const [first, second] = bags as [number[], number[]]
    const gradients = { 0: second.map((v) => 10 * v), 2: first.map((v, c) => v + 0.5 * second[c]!) }
    for (const row of [0, 2] as const) {
      const x = Float64Array.from(before[row]!)
      const zeros = () => new Float64Array(V)
      const g = Float64Array.from(gradients[row])
      rowwiseAdagrad({ x, g, m: zeros(), v: zeros() }, { lr }, 1)
      for (const [c, wanted] of x.entries()) expect(after[row]![c]).toBeCloseTo(wanted, 5)
    }
    expect(after[1]).toEqual(before[1])
  })
})
