// What layer.usage() counts, against a count by hand.

import { describe, expect, test } from 'vitest'
import { MemoryLayer, PeerLayer, type SlotUsage } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

const options = { inputDim: 6, heads: 2, knn: 3, nKeys: 5, keyDim: 8, seed: 4 }

function byHand(slots: number, indices: readonly number[], ever: ReadonlySet<number>): SlotUsage {
  const counts = new Map<number, number>()
  for (const slot of indices) counts.set(slot, (counts.get(slot) ?? 0) + 1)
  let entropy = 0
  for (const count of counts.values())
    entropy -= (count / indices.length) * Math.log(count / indices.length)
  const { size } = new Set([...ever, ...indices])
  return { slots, reads: indices.length, slotsRead: counts.size, everRead: size / slots, entropy }
}

onEveryDevice((device) => {
  describe.each([
    ['MemoryLayer', () => new MemoryLayer(device, options)],
    ['PeerLayer', () => new PeerLayer(device, options)],
  ] as const)('%s.usage', (_, make) => {
    test('counts the reads of forward since the last call', async () => {
      const layer = make()
      const ever = new Set<number>()
      const read = async (seeds: number[]) => {
        const indices: number[] = []
        for (const seed of seeds) {
          const x = device.normal([7, 6], { seed })
          const { context } = layer.forward(x)
          indices.push(...(await context.lookup().indices.data()))
          context.dispose()
          layer.infer(x)
        }
        const wanted = byHand(25, indices, ever)
        for (const slot of indices) ever.add(slot)
        return wanted
      }
      const expectUsage = async (wanted: SlotUsage) => {
        const { entropy, ...counts } = await layer.usage()
        const { entropy: wantedEntropy, ...wantedCounts } = wanted
        expect(counts).toEqual(wantedCounts)
        expect(Math.abs(entropy - wantedEntropy)).toBeLessThan(1e-12)
      }
      await expectUsage({ slots: 25, reads: 0, slotsRead: 0, everRead: 0, entropy: 0 })
      await expectUsage(await read([1, 2, 3]))
      await expectUsage(await read([4]))
      const none = await layer.usage()
      expect(none).toEqual({
        slots: 25,
        reads: 0,
        slotsRead: 0,
        everRead: ever.size / 25,
        entropy: 0,
      })
    })

    test('reads of few slots have the entropy of their number', async () => {
      const layer = make()
      const keys = layer.parameters().find(({ name }) => name === 'keys')!
      const zeros = new Float32Array(keys.value.size)
      keys.value.write(zeros)
      layer.forward(device.normal([4, 6], { seed: 1 }))
      const { entropy, slotsRead } = await layer.usage()
      // all scores are equal: the first slots win
      expect(slotsRead).toBe(3)
      expect(entropy).toBeCloseTo(Math.log(3), 12)
    })

    test('after dispose it is refused', async () => {
      const layer = make()
      layer.dispose()
      await errorOf('ERR_DISPOSED', () => layer.usage())
    })
  })

  test('a table of more than one chunk', async () => {
    const layer = new MemoryLayer(device, { ...options, nKeys: 150, outputDim: 2 })
    const x = device.normal([40, 6], { seed: 9 })
    const { context } = layer.forward(x)
    const indices = [...(await context.lookup().indices.data())]
    const { entropy, ...counts } = await layer.usage()
    const { entropy: wanted, ...wantedCounts } = byHand(150 ** 2, indices, new Set())
    expect(counts).toEqual(wantedCounts)
    expect(Math.abs(entropy - wanted)).toBeLessThan(1e-12)
  })
})
