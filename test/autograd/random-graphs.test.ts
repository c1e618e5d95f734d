// Random graphs of operations: their gradients against the finite differences of the same graph,
// interpreted in float64.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ops, type Tensor } from '../../lib/index.js'
import { activations } from '../reference/activation.js'
import * as bag from '../reference/embedding-bag.js'
import { linear } from '../reference/linear.js'
import { rmsNorm } from '../reference/rms-norm.js'
import { sigmoidGate } from '../reference/sigmoid-gate.js'
import { siluGate } from '../reference/silu-gate.js'
import { softmax } from '../reference/softmax.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { dot, finiteDifferences } from '../support/finite-differences.js'
import { uniform } from '../support/random.js'

const [R, C] = [3, 4]
// Rows that a bag reads: padding, and one row twice.
const indices = Int32Array.of(2, 0, -1, 1, 2, 2)

type Numbers = Float64Array

/** What a step computes from two earlier values [R, C], a weight [C, C] and a gain [C]. */
interface Operation {
  device(a: Tensor, b: Tensor, weight: Tensor, gain: Tensor): Tensor
  reference(a: Numbers, b: Numbers, weight: Numbers, gain: Numbers): Numbers
}

const operations: Record<string, Operation> = {
  add: {
    device: (a, b) => ops.add(a, b, { alpha: 0.5, beta: -2 }),
    reference: (a, b) => a.map((v, i) => 0.5 * v - 2 * b[i]!),
  },
  sum: { device: (a, b) => ops.add(a, b), reference: (a, b) => a.map((v, i) => v + b[i]!) },
  linear: {
    device: (a, _, weight, gain) => ops.linear(a, weight, gain),
    reference: (a, _, weight, gain) => linear(a, weight, gain, R, C, C),
  },
  product: {
    // b takes the part of the weight: [R, C] x [R, C] -> [R, R] -> [R, C]
    device: (a, b) => ops.linear(ops.linear(a, b), transposed(b)),
    reference: (a, b) => {
      const scores = linear(a, b, undefined, R, C, R)
      return linear(scores, transpose(b), undefined, R, R, C)
    },
  },
  siluGate: { device: (a, b) => ops.siluGate(a, b), reference: siluGate },
  sigmoidGate: {
    device: (a, b) => ops.sigmoidGate(a, b.reshape([R * C, 1]).rows(1, R + 1)),
    reference: (a, b) => sigmoidGate(a, b.slice(1, R + 1), C),
  },
  gelu: { device: (a) => ops.gelu(a), reference: (a) => a.map(activations.gelu.f) },
  silu: { device: (a) => ops.silu(a), reference: (a) => a.map(activations.silu.f) },
  sigmoid: { device: (a) => ops.sigmoid(a), reference: (a) => a.map(activations.sigmoid.f) },
  softmax: { device: (a) => ops.softmax(a), reference: (a) => softmax(a, C) },
  rmsNorm: {
    device: (a, _, __, gain) => ops.rmsNorm(a, gain, { eps: 0.1 }),
    reference: (a, _, __, gain) => rmsNorm(a, gain, C, 0.1),
  },
  bag: {
    device: (a, b) => {
      const places = a.device.tensor(indices, [R, 2])
      return ops.embeddingBag(a, places, b.reshape([6, 2]).rows(1, 4))
    },
    reference: (a, b) =>
      bag.embeddingBag(a, C, {
        indices,
        weights: b.slice(2, 8),
        offsets: bag.fixedOffsets(R, 2),
      }),
  },
}

/** The transpose of [R, C], recorded. */
function transposed(b: Tensor): Tensor {
  const identity = b.device.tensor(
    Float32Array.from({ length: C * C }, (_, i) => (i % (C + 1) === 0 ? 1 : 0)),
    [C, C],
  )
  return ops.linear(identity, b)
}

function transpose(b: Numbers): Numbers {
  return Float64Array.from({ length: C * R }, (_, i) => b[(i % R) * C + Math.floor(i / R)]!)
}

const step = fc.record({
  name: fc.constantFrom(...Object.keys(operations)),
  a: fc.nat(20),
  b: fc.nat(20),
  dispose: fc.boolean(),
})

onEveryDevice((device) => {
  const numRuns = device.kind === 'simt' ? 15 : 60

  test('gradients equal finite differences of a float64 interpreter', async () => {
    const property = fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 8 }),
      fc.nat(1000),
      async (steps, seed) => {
        const leaves = [
          uniform(R * C, seed),
          uniform(R * C, seed + 1),
          uniform(C * C, seed + 2),
          uniform(C, seed + 3),
        ] as const
        const dy = uniform(R * C, seed + 4)
        const interpret = (x: readonly ArrayLike<number>[]) => {
          const [first, second, weight, gain] = x.map((v) => Float64Array.from(v)) as Numbers[]
          const values = [first!, second!]
          for (const { name, a, b } of steps) {
            const [left, right] = [values[a % values.length]!, values[b % values.length]!]
            values.push(operations[name]!.reference(left, right, weight!, gain!))
          }
          return values
        }
        const wanted = interpret(leaves)
        fc.pre(magnitude(wanted.at(-1)!) < 100)

        const shapes = [[R, C], [R, C], [C, C], [C]]
        const inputs = leaves.map((x, i) => device.tensor(x, shapes[i]!).requireGrad())
        const values: Tensor[] = [inputs[0]!, inputs[1]!]
        for (const { name, a, b } of steps) {
          const [left, right] = [values[a % values.length]!, values[b % values.length]!]
          values.push(operations[name]!.device(left, right, inputs[2]!, inputs[3]!))
        }
        const y = values.at(-1)!
        expectClose('y', await y.data(), wanted.at(-1)!, 1e-4)
        for (const [i, s] of steps.slice(0, -1).entries()) if (s.dispose) values[i + 2]!.dispose()
        y.backward(device.tensor(dy, [R, C]))

        for (const [i, input] of inputs.entries()) {
          const slopes = finiteDifferences(
            (moved) => dot(interpret(leaves.map((x, j) => (j === i ? moved : x))).at(-1)!, dy),
            leaves[i]!,
          )
          const got = input.grad ? await input.grad.data() : new Float32Array(slopes.length)
          expectClose(`gradient of input ${i}`, got, slopes, 2e-4, Math.max(magnitude(slopes), 0.1))
        }
        expect([...inputs, y].some((t) => t.disposed)).toBe(false)
        for (const t of [...inputs, ...values]) t.dispose()
      },
    )
    await fc.assert(property, { numRuns })
  })
})
