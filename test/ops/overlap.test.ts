// Outputs that share memory with an input or with another output. An input that the contract allows
// as the output, as a whole, gives the bits of a new tensor; any other overlap is ERR_VALUE before
// anything is written.

import { describe, expect, test } from 'vitest'
import { ops, type Tensor } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { type Case, elements, overlapCases, type Tensors } from '../support/overlap-cases.js'

onEveryDevice((device) => {
  const values = (c: Case) =>
    Object.fromEntries(
      Object.entries(c.inputs).map(([name, shape], i) => [
        name,
        device.normal(shape, { seed: i + 1 }),
      ]),
    )
  const bits = async (results: Tensors) =>
    Object.fromEntries(
      await Promise.all(Object.entries(results).map(async ([n, t]) => [n, await t.data()])),
    )

  /** Two tensors in one memory: `a` from its start, `b` from element `at` on. */
  function sharing(
    a: readonly number[],
    b: readonly number[],
    at: number,
  ): [Tensor<'float32'>, Tensor<'float32'>] {
    const [sizeA, sizeB] = [elements(a), elements(b)]
    const memory = device.zeros([Math.max(sizeA, at + sizeB)])
    return [memory.rows(0, sizeA).reshape(a), memory.rows(at, at + sizeB).reshape(b)]
  }

  describe.each(Object.entries(overlapCases(device)))('%s', (_, c) => {
    const outputs = Object.keys(c.outputs)

    test('an output that is, overlaps or follows an input', async () => {
      const expected = await bits(c.run(values(c), {}))
      for (const output of outputs)
        for (const [input, shape] of Object.entries(c.inputs)) {
          const size = elements(shape)
          const whole = elements(c.outputs[output]!) === size
          for (const at of [0, size - 1, size]) {
            const inputs = values(c)
            const [shared, out] = sharing(shape, c.outputs[output]!, at)
            shared.copyFrom(inputs[input]!)
            inputs[input] = shared
            const call = () => c.run(inputs, { [output]: out })
            const label = `${output} at element ${at} of ${input}`
            if (at === size || (at === 0 && whole && c.inPlace?.[output]?.includes(input))) {
              expect(await bits(call()), label).toEqual(expected)
              continue
            }
            const before = await shared.data()
            const message = await errorOf('ERR_VALUE', call)
            expect(message, label).toContain(`"${output}" must have memory of its own`)
            expect(message, label).toContain(`overlaps "${input}"`)
            expect(await shared.data(), label).toEqual(before)
          }
        }
    })

    test.runIf(outputs.length > 1)('two outputs that overlap, or follow one another', async () => {
      const expected = await bits(c.run(values(c), {}))
      for (const [i, first] of outputs.entries())
        for (const second of outputs.slice(i + 1)) {
          const size = elements(c.outputs[first]!)
          for (const at of [0, size - 1, size]) {
            const [a, b] = sharing(c.outputs[first]!, c.outputs[second]!, at)
            const call = () => c.run(values(c), { [first]: a, [second]: b })
            if (at === size) expect(await bits(call())).toEqual(expected)
            else expect(await errorOf('ERR_VALUE', call)).toContain(`overlaps "${first}"`)
          }
        }
    })
  })

  test('copyFrom is refused between rows that overlap', async () => {
    const t = device.tensor(
      Array.from({ length: 12 }, (_, i) => i),
      [6, 2],
    )
    const before = await t.data()
    const [upper, lower] = [t.rows(0, 5), t.rows(1, 6)]
    for (const [to, from] of [
      [upper, lower],
      [lower, upper],
    ] as const) {
      const message = await errorOf('ERR_VALUE', () => to.copyFrom(from))
      expect(message).toContain('Tensor.copyFrom: "this" must have memory of its own')
    }
    await errorOf('ERR_VALUE', () => ops.add(upper, upper, { out: lower }))
    t.copyFrom(t)
    t.rows(0, 3).copyFrom(t.rows(0, 3))
    expect(await t.data()).toEqual(before)
    t.rows(0, 3).copyFrom(t.rows(3, 6))
    expect(await t.data()).toEqual(Float32Array.of(6, 7, 8, 9, 10, 11, 6, 7, 8, 9, 10, 11))
  })

  test('views without elements overlap nothing', async () => {
    const t = device.tensor([1, 2], [1, 2])
    const none = t.rows(0, 0)
    ops.add(none, none, { out: none })
    none.copyFrom(t.rows(1, 1))
    ops.linear(t.rows(0, 0), t, undefined, { out: t.rows(0, 0).reshape([0, 1]) })
    expect(await t.data()).toEqual(Float32Array.of(1, 2))
  })
})
