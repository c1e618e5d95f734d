import { expect, test } from 'vitest'
import { AdamW, MemoryLayer } from '../../lib/index.js'
import { adamw } from '../reference/adamw.js'
import { onEveryDevice } from '../support/devices.js'
import { accumulate, expectRule, small } from '../support/optimizer.js'
import { rowsOf } from '../support/rows.js'

onEveryDevice((device) => {
  test('equals the float64 rule over five steps, touched rows only', () =>
    expectRule(device, {
      optimizer: (p) => new AdamW(p, { lr: 0.01 }),
      rule: adamw,
      hyper: { lr: 0.01 },
    }))

  test('with every option', () => {
    const hyper = { lr: 0.01, eps: 1e-6, betas: [0.8, 0.95], weightDecay: 0.3 } as const
    return expectRule(device, {
      optimizer: (p) => new AdamW(p, { ...hyper, tableLr: 0.03 }),
      rule: adamw,
      hyper,
      tableLr: 0.03,
    })
  })

  test('with dense updates of tables', () =>
    expectRule(device, {
      optimizer: (p) => new AdamW(p, { lr: 0.01, weightDecay: 0.1, tableMode: 'dense' }),
      rule: adamw,
      hyper: { lr: 0.01, weightDecay: 0.1 },
      allRows: true,
    }))

  test('rows that nothing read keep their bits, even under decay and momentum', async () => {
    const layer = new MemoryLayer(device, { ...small, nKeys: 32 })
    const optimizer = new AdamW(layer.parameters(), { lr: 0.1, weightDecay: 0.5 })
    const before = rowsOf(await layer.values.weight.data(), 12)
    accumulate(layer, 1)
    const touched = new Set((await layer.values.gradient().data()).rows)
    expect(touched.size).toBeLessThan(200)

    optimizer.step()

    const after = rowsOf(await layer.values.weight.data(), 12)
    for (const [r, row] of after.entries()) {
      if (touched.has(r)) expect(row).not.toEqual(before[r])
      else expect(row).toEqual(before[r])
    }
  })
})
