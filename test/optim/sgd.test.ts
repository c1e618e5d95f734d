import { test } from 'vitest'
import { Sgd } from '../../lib/index.js'
import { sgd } from '../reference/sgd.js'
import { onEveryDevice } from '../support/devices.js'
import { expectRule } from '../support/optimizer.js'

onEveryDevice((device) => {
  test('equals the float64 rule over five steps, touched rows only', () =>
    expectRule(device, {
      optimizer: (p) => new Sgd(p, { lr: 0.1 }),
      rule: sgd,
      hyper: { lr: 0.1 },
    }))

  test('with weight decay', () =>
    expectRule(device, {
      optimizer: (p) => new Sgd(p, { lr: 0.1, weightDecay: 0.2 }),
      rule: sgd,
      hyper: { lr: 0.1, weightDecay: 0.2 },
    }))
})
