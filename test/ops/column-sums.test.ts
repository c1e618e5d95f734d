// Sums over the rows of a batch stay right however many rows there are: float32 alone, added one by
// one, is off by 1 % after a million.

import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import { CrossEntropy } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'

onEveryDevice((device) => {
  const rows = device.kind === 'simt' ? 2 ** 14 : 2 ** 20
  const tolerance = 5e-6

  test.each([
    ['equal terms', () => 0.1],
    ['terms of both signs', (i: number) => 1 + Math.sin(i)],
    ['small terms after large ones', (i: number) => (i < 8 ? 1000 : 0.001)],
  ])('dbias and dgain: %s', async (_, term) => {
    const values = Float32Array.from({ length: rows }, (_, i) => term(i))
    const sum = values.reduce((total, v) => total + v, 0)
    const dy = device.tensor(values, [rows, 1])
    const ones = device.tensor(new Float32Array(rows).fill(1), [rows, 1])
    const { dBias } = ops.linearBackward(dy, ones, device.tensor([1], [1, 1]), {
      needs: { x: false, weight: false },
      into: { bias: device.tensor([5]) },
    })
    expect(Math.abs((await dBias!.data())[0]! / (sum + 5) - 1)).toBeLessThan(tolerance)
    // of x = 1 the norm is 1: dgain is the sum of dy
    const { dGain } = ops.rmsNormBackward(dy, ones, device.tensor([1]), { eps: 0 })
    expect(Math.abs((await dGain!.data())[0]! / sum - 1)).toBeLessThan(tolerance)
  })

  test('a mean loss', async () => {
    const tokens = rows / 8
    const logits = device.normal([tokens, 3], { seed: 1 })
    const targets = device.zeros([tokens], 'int32')
    const losses = await ops.crossEntropy(logits, targets).data()
    const mean = losses.reduce((total, v) => total + v, 0) / tokens
    const { loss } = new CrossEntropy(device).forward(logits, targets)
    expect(Math.abs((await loss.data())[0]! / mean - 1)).toBeLessThan(tolerance)
  })
})
