import { expect, test } from 'vitest'
import { clipGradNorm, MemoryLayer } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot } from '../support/finite-differences.js'
import { accumulate, gradientOf, small } from '../support/optimizer.js'

onEveryDevice((device) => {
  test('scales dense and table gradients by their common norm', async () => {
    const layer = new MemoryLayer(device, small)
    accumulate(layer, 1)
    accumulate(layer, 2)
    const gradients = async () => {
      const each = await Promise.all(layer.parameters().map(gradientOf))
      return each.flatMap((g) => Array.from(g))
    }
    const clip = async (maxNorm: number) =>
      (await clipGradNorm(layer.parameters(), maxNorm).data())[0]
    const before = await gradients()
    const norm = Math.sqrt(dot(before, before))

    expect(await clip(norm * 2)).toBeCloseTo(norm, 3)
    expect(await gradients()).toEqual(before)

    expect(await clip(norm / 4)).toBeCloseTo(norm, 3)
    for (const [i, g] of (await gradients()).entries()) expect(g).toBeCloseTo(before[i]! / 4, 5)
  })

  test('a negative norm is refused', async () => {
    const layer = new MemoryLayer(device, small)
    await errorOf('ERR_VALUE', () => clipGradNorm(layer.parameters(), -1))
  })
})
