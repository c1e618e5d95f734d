import { expect, test } from 'vitest'
import { openDevice } from '../../lib/index.js'
import { countOf } from '../../lib/nn/fit-step.js'
import { revoked } from '../support/junk.js'

test('numbers of a batch are counted in whatever holds them', () => {
  const device = openDevice('cpu')
  using tensor = device.zeros([2, 3], 'int32')
  expect(countOf(tensor)).toBe(6)
  expect(countOf(Int32Array.of(1, 2, 3))).toBe(3)
  expect(countOf([1, 2, 3, 4])).toBe(4)
  expect(
    countOf([
      [1, 2],
      [3, 4, 5],
    ]),
  ).toBe(5)
  expect(countOf([tensor, Int32Array.of(1), [2]])).toBe(8)
})

test('what is no batch has none, and ends', () => {
  const circle: unknown[] = [1]
  circle.push(circle)
  let deep: unknown[] = []
  for (let i = 0; i < 20_000; i++) deep = [deep]
  for (const value of [undefined, null, 5, 'text', { length: 3 }, revoked({}), revoked([]), deep])
    expect(countOf(value)).toBe(0)
  expect(countOf([1, revoked([1, 2])])).toBe(1)
  expect(countOf(circle)).toBeLessThan(10)
})
