import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openDevice, ops } from '../../lib/index.js'
import { choices, multinomial, type Sampling } from '../reference/multinomial.js'
import { onEveryDevice, testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { randomTensor, uniform } from '../support/random.js'

const all: Sampling = { temperature: 1, topK: Infinity, topP: 1, samples: 1, seed: 0, step: 0 }

/** The options of the operation for those of the reference. */
const optionsOf = ({ topK, ...s }: Sampling) => ({ ...s, ...(topK < Infinity && { topK }) })

onEveryDevice((device) => {
  test('samples are those of the reference', () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 300 }),
        fc.record({
          temperature: fc.constantFrom(0, 0.25, 1, 3),
          topK: fc.constantFrom(1, 2, 7, 40, Infinity),
          topP: fc.constantFrom(0.01, 0.5, 0.9, 1),
          samples: fc.constantFrom(1, 5, 40),
          seed: fc.nat(1e9),
          step: fc.constantFrom(0, 3, 2 ** 40),
        }),
        async (rows, n, s) => {
          const logits = uniform(rows * n, s.seed).map((v) => Math.round(v * 50) / 10) // ties too
          const samples = ops.multinomial(device.tensor(logits, [rows, n]), optionsOf(s))
          expect(samples.shape).toEqual([rows, s.samples])
          expect(Array.from(await samples.data())).toEqual(multinomial(logits, n, s))
        },
      ),
      { numRuns: device.kind === 'cpu' ? 200 : 15 },
    ))

  test('rows of 5000, longer than a block', async () => {
    const [rows, n] = [2, 5000]
    const logits = uniform(rows * n, 4).map((v) => v * 4)
    for (const s of [
      { ...all, samples: 20 },
      { ...all, topP: 0.8, topK: 3000, samples: 20, step: 1 },
    ]) {
      const samples = await ops.multinomial(device.tensor(logits, [rows, n]), optionsOf(s)).data()
      expect(Array.from(samples)).toEqual(multinomial(logits, n, s))
    }
  })

  test('frequencies are the probabilities', async () => {
    const logits = [0, 1, -1, 2, -Infinity, 0.5]
    const count = device.kind === 'cpu' ? 20000 : 3000
    for (const options of [{}, { temperature: 2 }, { topK: 3 }, { topP: 0.8, temperature: 0.7 }]) {
      const s = { ...all, ...options }
      const samples = await ops
        .multinomial(device.tensor(logits), { ...options, samples: count, seed: 3 })
        .data()
      const left = choices(logits, s)
      const total = left.reduce((sum, { weight }) => sum + weight, 0)
      for (const [index] of logits.entries()) {
        const p = (left.find((c) => c.index === index)?.weight ?? 0) / total
        const found = samples.filter((i) => i === index).length
        const deviation = Math.sqrt(count * p * (1 - p))
        expect(Math.abs(found - count * p), `index ${index}`).toBeLessThanOrEqual(5 * deviation)
      }
    }
  })

  test('temperature 0 is the first of the largest', async () => {
    const logits = device.tensor([1, 3, 3, 2, -0, 0, -1, -2], [2, 4])
    const options = { temperature: 0, samples: 2, topK: 3, topP: 0.5 }
    expect(await ops.multinomial(logits, options).data()).toEqual(Int32Array.of(1, 1, 0, 0))
  })

  test('NaN and infinities', async () => {
    const [inf, nan] = [Infinity, Number.NaN]
    const rows = [
      [nan, nan, nan, nan],
      [-inf, nan, -inf, -inf],
      [nan, -5, nan, -inf],
      [3e38, inf, -inf, nan],
      [-3e38, 3e38, 0, 1],
    ]
    const logits = device.tensor(rows.flat(), [5, 4])
    for (const options of [
      {},
      { temperature: 0 },
      { topK: 2, topP: 0.5 },
      { temperature: 1e-42 },
    ]) {
      const samples = await ops.multinomial(logits, { ...options, samples: 3 }).data()
      const wanted = [-1, -1, 1, 1, 1].flatMap((i) => [i, i, i])
      expect(Array.from(samples), JSON.stringify(options)).toEqual(wanted)
    }
    const two = device.tensor([inf, 0, inf, nan])
    const drawn = new Set(await ops.multinomial(two, { samples: 50 }).data())
    expect(drawn).toEqual(new Set([0, 2]))
  })

  test('steps, seeds and rows differ; a row does not depend on others or on samples', async () => {
    const logits = device.zeros([3, 1000])
    const of = async (o: object) => Array.from(await ops.multinomial(logits, o).data())
    const first = await of({ samples: 4 })
    expect(new Set(first).size).toBeGreaterThan(9)
    expect(await of({ samples: 4 })).toEqual(first)
    expect(await of({ samples: 4, step: 1 })).not.toEqual(first)
    expect(await of({ samples: 4, seed: 1 })).not.toEqual(first)
    expect(await of({})).toEqual([first[0], first[4], first[8]])
    const one = await ops.multinomial(logits.rows(0, 1), { samples: 4 }).data()
    expect(Array.from(one)).toEqual(first.slice(0, 4))
  })

  test('no rows, and writing into out', async () => {
    expect(ops.multinomial(device.zeros([0, 3])).shape).toEqual([0, 1])
    const out = device.zeros([2, 1], 'int32')
    expect(ops.multinomial(device.tensor([0, 9, 9, 0], [2, 2]), { temperature: 0, out })).toBe(out)
    expect(await out.data()).toEqual(Int32Array.of(1, 0))
  })

  test('what is wrong is named', async () => {
    const x = device.zeros([2, 3])
    await errorOf('ERR_VALUE', () => ops.multinomial(x, { temperature: -1 }))
    await errorOf('ERR_VALUE', () => ops.multinomial(x, { topK: 0 }))
    await errorOf('ERR_VALUE', () => ops.multinomial(x, { topP: 0 }))
    await errorOf('ERR_VALUE', () => ops.multinomial(x, { topP: 1.5 }))
    await errorOf('ERR_VALUE', () => ops.multinomial(x, { samples: 0 }))
    await errorOf('ERR_SHAPE', () => ops.multinomial(device.zeros([2, 0])))
    await errorOf('ERR_SHAPE', () => ops.multinomial(device.zeros([])))
    await errorOf('ERR_DTYPE', () => ops.multinomial(device.zeros([2], 'int32')))
    await errorOf('ERR_DTYPE', () => ops.multinomial(x, { out: device.zeros([2, 1]) }))
    expect(await errorOf('ERR_OPTION', () => ops.multinomial(x, { topk: 1 } as never))).toContain(
      'topK',
    )
  })
})

describe('every device', () => {
  test('draws the same', async () => {
    const results = testDevices.map((name) => {
      const { tensor } = randomTensor(openDevice(name), [3, 700], 8)
      return ops.multinomial(tensor, { temperature: 0.1, topP: 0.95, topK: 90, samples: 30 }).data()
    })
    for (const data of await Promise.all(results)) expect(data).toEqual(await results[0])
  })
})
