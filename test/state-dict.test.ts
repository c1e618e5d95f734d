// Loading a state dict whose tensors are, or overlap, those that are loaded.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { loadStateDict } from '../lib/state-dict.js'
import { onEveryDevice } from './support/devices.js'

const count = 8
const size = 4

onEveryDevice((device) => {
  test('each entry gets what its source held before, whatever the sources share', async () => {
    const offset = fc.integer({ min: 0, max: (count - 1) * size })
    const offsets = fc.array(offset, { minLength: count, maxLength: count })
    await fc.assert(
      fc.asyncProperty(offsets, async (begins) => {
        const numbers = Float32Array.from({ length: count * size }, (_, i) => i)
        using memory = device.tensor(numbers)
        const part = (begin: number) => memory.rows(begin, begin + size)
        const entries = begins.map((_, i) => ({ name: `${i}`, value: part(i * size) }))
        const sources = begins.map(part)
        loadStateDict('load', entries, Object.fromEntries(sources.map((s, i) => [`${i}`, s])))
        const wanted = begins.flatMap((begin) => [...numbers.subarray(begin, begin + size)])
        expect([...(await memory.data())]).toEqual(wanted)
        for (const t of [...entries.map((e) => e.value), ...sources]) t.dispose()
      }),
      { numRuns: device.kind === 'cpu' ? 200 : 30 },
    )
  })

  test('nothing more is allocated afterwards', async () => {
    using memory = device.tensor(Float32Array.of(1, 2))
    const a = memory.rows(0, 1)
    const b = memory.rows(1, 2)
    await device.synchronize()
    const { allocated } = device.memory()
    loadStateDict(
      'load',
      [
        { name: 'a', value: a },
        { name: 'b', value: b },
      ],
      { a: b, b: a },
    )
    expect([...(await memory.data())]).toEqual([2, 1])
    expect(device.memory().allocated).toBe(allocated)
  })
})
