import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemoryLayer, rankSlots, SlotCounter, type Tensor } from '../lib/index.js'
import { loadCheckpoint, saveCheckpoint } from '../lib/nn/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { temporaryFolder } from './support/files.js'
import { integers } from './support/random.js'

onEveryDevice((device) => {
  const tensor = (indices: ArrayLike<number>) => device.tensor(Int32Array.from(indices))
  const numbers = async (t: Tensor<'int32'>) => [...(await t.data())]

  test('reads, batches that read, and batches equal a count by hand', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: -1, max: 6 }), { maxLength: 40 }), { maxLength: 5 }),
        async (batches) => {
          using counter = new SlotCounter(device, { slots: 7 })
          for (const batch of batches) counter.add(tensor(batch))
          const slots = [0, 1, 2, 3, 4, 5, 6]
          const all = batches.flat()
          expect(await numbers(counter.reads)).toEqual(
            slots.map((s) => all.filter((i) => i === s).length),
          )
          expect(await numbers(counter.batches)).toEqual(
            slots.map((s) => batches.filter((batch) => batch.includes(s)).length),
          )
          expect(await numbers(counter.total)).toEqual([batches.length])
        },
      ),
      { numRuns: 15 },
    ))

  test('many entries of few slots count one batch', async () => {
    using counter = new SlotCounter(device, { slots: 50 })
    const batch = integers(3000, -1, 3, 1)
    for (let i = 0; i < 2; i++) counter.add(device.tensor(batch, [10, 3, 100]))
    const batches = await numbers(counter.batches)
    expect(batches.slice(0, 4)).toEqual([2, 2, 2, 0])
  })

  test('a batch with an index outside is not counted, and named', async () => {
    using counter = new SlotCounter(device, { slots: 4 })
    counter.add(tensor([1, 1]))
    counter.add(tensor([2, 4]))
    counter.add(tensor([1, 3]))
    const message = await errorOf('ERR_INDEX_RANGE', () => device.synchronize())
    expect(message).toContain('SlotCounter.add: "indices"[1] is 4, outside [0, 4)')
    expect(await numbers(counter.reads)).toEqual([0, 3, 0, 1])
    expect(await numbers(counter.batches)).toEqual([0, 2, 0, 1])
    expect(await numbers(counter.total)).toEqual([2])
  })

  test('its state goes on in another counter', async () => {
    using counter = new SlotCounter(device, { slots: 3 })
    counter.add(tensor([0, 2]))
    using other = new SlotCounter(device, { slots: 3 })
    other.add(tensor([1]))
    other.loadStateDict(counter.stateDict())
    other.add(tensor([2]))
    expect(await numbers(other.reads)).toEqual([1, 0, 2])
    expect(await numbers(other.batches)).toEqual([1, 0, 2])
    expect(await numbers(other.total)).toEqual([2])
    using wrong = new SlotCounter(device, { slots: 4 })
    await errorOf('ERR_STATE_DICT', () => wrong.loadStateDict(counter.stateDict()))
  })

  test('it is saved with a model, and ranks after it was loaded', async () => {
    const path = join(temporaryFolder(), 'model.safetensors')
    using background = new SlotCounter(device, { slots: 9 })
    background.add(tensor([0, 2, 2]))
    background.add(tensor([2]))
    await saveCheckpoint(path, { background })
    using kept = new SlotCounter(device, { slots: 9 })
    kept.add(tensor([7, 8]))
    await loadCheckpoint(path, { background: kept })
    using counts = new SlotCounter(device, { slots: 9 })
    counts.loadStateDict(background.stateDict())
    counts.add(tensor([8, 8, 2]))
    for (const by of ['tfidf', 'kl'] as const) {
      const [a, b] = await Promise.all(
        [background, kept].map((of) => rankSlots(counts, { background: of, top: 9, by })),
      )
      expect(a).toEqual(b)
      expect([...a!.slots].sort()).toEqual([0, 2, 8])
    }
  })

  test('what a memory layer reads', async () => {
    const options = { inputDim: 8, heads: 2, knn: 3, nKeys: 4, keyDim: 4, seed: 1 }
    using layer = new MemoryLayer(device, options)
    using counter = new SlotCounter(device, { slots: 16 })
    const { context } = layer.forward(device.normal([5, 8], { seed: 1 }))
    const { indices } = context.lookup()
    counter.add(indices)
    const found = await numbers(counter.reads)
    const usage = await layer.usage()
    expect(found.reduce((a, b) => a + b)).toBe(usage.reads)
    expect(found.filter((n) => n > 0).length).toBe(usage.slotsRead)
  })

  test('ranks by TF-IDF and by divergence, as by hand', async () => {
    using background = new SlotCounter(device, { slots: 6 })
    for (const batch of [
      [0, 0, 1],
      [0, 2],
      [0, 1],
    ])
      background.add(tensor(batch))
    using counts = new SlotCounter(device, { slots: 6 })
    counts.add(tensor([0, 0, 0, 1, 2, 4, 3, -1]))

    const found = await rankSlots(counts, { background, top: 4 })
    const wanted = [
      [3, (1 / 7) * Math.log(4 / 1)],
      [4, (1 / 7) * Math.log(4 / 1)],
      [2, (1 / 7) * Math.log(4 / 2)],
      [1, (1 / 7) * Math.log(4 / 3)],
    ]
    expect([...found.slots]).toEqual(wanted.map(([slot]) => slot))
    for (const [i, [, score]] of wanted.entries()) expect(found.scores[i]).toBeCloseTo(score!, 12)
    const all = await rankSlots(counts, { background, top: 100 })
    expect([...all.slots]).toEqual([3, 4, 2, 1, 0]) // slot 5 was not read
    expect(all.scores[4]).toBe(0)

    const kl = await rankSlots(counts, { background, top: 5, by: 'kl' })
    const share = [5, 3, 2, 1, 1, 1].map((n) => n / 13)
    const score = (slot: number, p: number) => p * Math.log(p / share[slot]!)
    expect([...kl.slots]).toEqual([3, 4, 0, 2, 1])
    for (const [i, slot] of kl.slots.entries())
      expect(kl.scores[i]).toBeCloseTo(score(slot, slot === 0 ? 3 / 7 : 1 / 7), 12)
  })

  test('what is wrong is named', async () => {
    await errorOf('ERR_VALUE', () => new SlotCounter(device, { slots: 0 }))
    await errorOf('ERR_OPTION', () => new SlotCounter(device, { slot: 3 } as never))
    using counter = new SlotCounter(device, { slots: 3 })
    using other = new SlotCounter(device, { slots: 4 })
    await errorOf('ERR_DTYPE', () => counter.add(device.zeros([2])))
    await errorOf('ERR_VALUE', () => rankSlots(counter, { background: other, top: 1 }))
    await errorOf('ERR_VALUE', () => rankSlots(counter, { background: counter, top: 0 }))
    await errorOf('ERR_VALUE', () => rankSlots(counter, { background: {} as never, top: 1 }))
    const by = 'idf' as never
    await errorOf('ERR_VALUE', () => rankSlots(counter, { background: counter, top: 1, by }))
    const none = await rankSlots(counter, { background: counter, top: 1 })
    expect(none.slots).toEqual(new Int32Array(0))
  })
})
