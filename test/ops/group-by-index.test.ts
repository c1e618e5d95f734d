import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/group-by-index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { integers } from '../support/random.js'

onEveryDevice((device) => {
  async function expectReference(entries: ArrayLike<number>, bagSize: number, groups: number) {
    const shape = [entries.length / bagSize, bagSize]
    const indices = device.tensor(Int32Array.from(entries), shape)
    const found = ops.groupByIndex(indices, groups)
    expect(found.positions.shape).toEqual(shape)
    const wanted = reference.groupByIndex(entries, bagSize, groups)
    for (const name of ['order', 'bags', 'positions', 'offsets'] as const)
      expect(await found[name].data(), name).toEqual(Int32Array.from(wanted[name]))
  }

  test('any entries, padding among them, equal the reference', () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 0, max: 12 }),
        fc.nat(1000),
        (bagSize, groups, bags, seed) =>
          expectReference(integers(bags * bagSize, -1, groups, seed), bagSize, groups),
      ),
      { numRuns: 20 },
    ))

  test.each([
    [600, 3, 70],
    [40, 2, 1000],
    [333, 1, 1],
  ])('%i bags of %i among %i groups', (bags, bagSize, groups) =>
    expectReference(integers(bags * bagSize, 0, groups, 5), bagSize, groups),
  )

  test('all of one group, none, only padding, and nothing at all', async () => {
    await expectReference(new Int32Array(8).fill(2), 2, 4)
    await expectReference(new Int32Array(8).fill(-1), 2, 4)
    await expectReference(new Int32Array(0), 2, 3)
    const none = ops.groupByIndex(device.zeros([0, 2], 'int32'), 0)
    expect(await none.offsets.data()).toEqual(Int32Array.of(0))
  })

  test('positions are the inverse of the order, and bags gather what they return', async () => {
    const [T, L, E, V] = [50, 2, 4, 3]
    const x = device.normal([T, V], { seed: 1 })
    const { bags, positions } = ops.groupByIndex(device.tensor(integers(T * L, 0, E, 9), [T, L]), E)
    const halves = device.tensor(new Float32Array(T * L).fill(0.5), [T, L])
    const back = ops.embeddingBag(ops.embedding(x, bags), positions, halves)
    expect(await back.data()).toEqual(await x.data())
  })

  test('an index that is no group is found, and named', async () => {
    for (const index of [4, -2]) {
      const { offsets } = ops.groupByIndex(device.tensor(Int32Array.of(0, index), [1, 2]), 4)
      const message = await errorOf('ERR_INDEX_RANGE', () => offsets.data())
      expect(message).toContain(`groupByIndex: "indices"[1] is ${index}, outside [0, 4)`)
    }
  })

  test('what is wrong is named', async () => {
    const indices = device.zeros([2, 2], 'int32')
    await errorOf('ERR_SHAPE', () => ops.groupByIndex(device.zeros([4], 'int32'), 2))
    await errorOf('ERR_DTYPE', () => ops.groupByIndex(device.zeros([2, 2]), 2))
    await errorOf('ERR_VALUE', () => ops.groupByIndex(indices, -1))
    await errorOf('ERR_VALUE', () => ops.groupByIndex(indices, 2 ** 31))
    const wrong = device.zeros([2], 'int32')
    await errorOf('ERR_SHAPE', () => ops.groupByIndex(indices, 2, { out: { offsets: wrong } }))
  })
})
