import { describe, expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import { activations } from '../reference/activation.js'
import { onEveryDevice } from '../support/devices.js'

const names = Object.keys(activations) as (keyof typeof activations)[]

onEveryDevice((device) => {
  describe.each(names)('%s', (name) => {
    const { f, derivative } = activations[name]
    const points = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 160)
    // exp(-x^2 / 2) can't be better than the rounding of its exponent.
    const tolerance = (x: number) => 3e-6 + 6e-8 * x * x

    test('values equal the reference over the whole range', async () => {
      const y = await ops[name](device.tensor(points)).data()
      for (const [i, x] of points.entries()) {
        const wanted = f(x)
        const error = Math.abs(y[i]! - wanted)
        if (!(error <= tolerance(x) * Math.abs(wanted) + 1e-37))
          expect.fail(`${name}(${x}) is ${y[i]}, wanted ${wanted}`)
      }
    })

    test('derivatives equal the reference over the whole range', async () => {
      const dy = device.tensor(new Float32Array(points.length).fill(1))
      const dx = await ops[`${name}Backward`](dy, device.tensor(points)).data()
      for (const [i, x] of points.entries()) {
        const wanted = derivative(x)
        const error = Math.abs(dx[i]! - wanted)
        // Near its zero crossing a derivative is a difference of two numbers near 1: the error is
        // absolute there.
        const scale = Math.max(Math.abs(wanted), Math.min(1, Math.abs(f(x))))
        if (!(error <= tolerance(x) * scale + 1e-37))
          expect.fail(`${name}'(${x}) is ${dx[i]}, wanted ${wanted}`)
      }
    })

    test('values at infinities, NaN, zero and huge numbers', async () => {
      const x = device.tensor([Infinity, -Infinity, Number.NaN, 0, 1e30, -1e30])
      const y = await ops[name](x).data()
      expect(y[0]).toBe(name === 'sigmoid' ? 1 : Infinity)
      expect(Math.abs(y[1]!)).toBe(0)
      expect(y[2]).toBeNaN()
      expect(y[3]).toBe(f(0))
      expect(Math.abs(y[5]!)).toBe(0)
    })

    test('derivatives at infinities and NaN', async () => {
      const x = device.tensor([Infinity, -Infinity, Number.NaN])
      const dx = await ops[`${name}Backward`](device.tensor([1, 1, 1]), x).data()
      expect(Math.abs(dx[0]!)).toBe(name === 'sigmoid' ? 0 : 1)
      expect(Math.abs(dx[1]!)).toBe(0)
      expect(dx[2]).toBeNaN()
    })
  })
})
