// Numbers of any size: optimizers and sums give the same on every device, and what float64 gives as
// float32.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Adagrad, AdamW, type Device, openDevice, RowwiseAdagrad, Sgd } from '../lib/index.js'
import { Embedding, Linear } from '../lib/nn/index.js'
import { testDevices } from './support/devices.js'

const rules = { Sgd, Adagrad, RowwiseAdagrad, AdamW } as const
type Rule = keyof typeof rules

/** A table [3, 4] and a weight [2, 4] after two steps with gradients of this size. */
async function trained(device: Device, rule: Rule, gradient: readonly number[]) {
  const embedding = new Embedding(device, { count: 3, dim: 4, seed: 1 })
  const linear = new Linear(device, { inputDim: 4, outputDim: 2, bias: false, seed: 2 })
  const parameters = [...embedding.parameters(), ...linear.parameters()]
  const optimizer = new rules[rule](parameters, { lr: 0.01 })
  for (const p of linear.parameters()) if (p.kind === 'dense') p.grad.write(gradient)
  const { context } = embedding.forward([0, 2])
  embedding.backward(context, device.tensor(gradient, [2, 4]))
  for (let step = 0; step < 2; step++) optimizer.step()
  const values = await Promise.all(parameters.map((p) => p.value.to('float32').data()))
  return values.flatMap((v) => Array.from(v as Float32Array))
}

const magnitude = fc.tuple(fc.double({ min: -38, max: 38, noNaN: true }), fc.boolean())
const gradients = fc.array(
  magnitude.map(([log10, negative]) => Math.fround((negative ? -1 : 1) * 10 ** log10)),
  { minLength: 8, maxLength: 8 },
)

test.each(Object.keys(rules) as Rule[])('%s: the same on every device', async (rule) => {
  const [first, ...others] = testDevices.map((name) => openDevice(name))
  await fc.assert(
    fc.asyncProperty(gradients, async (gradient) => {
      const wanted = await trained(first!, rule, gradient)
      for (const device of others) {
        const got = await trained(device, rule, gradient)
        for (const [i, w] of wanted.entries()) {
          const same =
            Object.is(got[i], w) || Math.abs(got[i]! - w) <= 1e-5 * Math.max(1, Math.abs(w))
          expect(same, `${device.name} [${i}]: ${got[i]}, ${first!.name}: ${w}`).toBe(true)
        }
      }
    }),
    // the mean of these squares is a float32, their sum is not
    { numRuns: 40, examples: [[new Array(8).fill(1e19)]] },
  )
})
