import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MemoryLayersError } from '../../lib/errors.js'
import { schedules } from '../../lib/nn/schedules.js'

const { constant, warmupCosine, warmupLinear } = schedules

describe.each([
  ['warmupCosine', warmupCosine],
  ['warmupLinear', warmupLinear],
] as const)('%s', (_, schedule) => {
  test('rises to 1, falls to the floor, and stays there', () => {
    const numbers = fc.record({
      warmup: fc.integer({ min: 0, max: 50 }),
      fall: fc.integer({ min: 1, max: 200 }),
      floor: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    fc.assert(
      fc.property(numbers, ({ warmup, fall, floor }) => {
        const total = warmup + fall
        const factor = schedule({ warmup, total, floor })
        expect(factor(warmup)).toBeCloseTo(1, 12)
        expect(factor(total)).toBe(floor)
        expect(factor(10 * total)).toBe(floor)
        for (let step = 1; step <= total; step++) {
          const change = factor(step) - factor(step - 1)
          if (step <= warmup) expect(change).toBeCloseTo(1 / warmup, 12)
          else expect(change).toBeLessThanOrEqual(1e-15)
          expect(factor(step)).toBeGreaterThanOrEqual(floor * Math.min(1, step / (warmup || 1)))
        }
      }),
    )
  })

  test('refuses what is no schedule', () => {
    const code = (options: object) => {
      try {
        schedule(options as never)
      } catch (error) {
        return (error as MemoryLayersError).code
      }
      return 'none'
    }
    expect(code({})).toBe('ERR_VALUE')
    expect(code({ total: 10, warmup: 10 })).toBe('ERR_VALUE')
    expect(code({ total: 10, floor: 1.5 })).toBe('ERR_VALUE')
    expect(code({ total: 10, floors: 0 })).toBe('ERR_OPTION')
  })
})

test('halfway down, a cosine and a line are at the middle; a quarter down they differ', () => {
  const options = { warmup: 100, total: 300, floor: 0.2 }
  expect(warmupCosine(options)(200)).toBeCloseTo(0.6, 12)
  expect(warmupLinear(options)(200)).toBeCloseTo(0.6, 12)
  expect(warmupCosine(options)(150)).toBeCloseTo(0.2 + 0.8 * (1 + Math.SQRT1_2) * 0.5, 12)
  expect(warmupLinear(options)(150)).toBeCloseTo(0.8, 12)
})

test('constant is 1, after its warm-up', () => {
  expect([1, 10, 1e6].map(constant())).toEqual([1, 1, 1])
  expect([1, 2, 4, 5].map(constant({ warmup: 4 }))).toEqual([0.25, 0.5, 1, 1])
})
