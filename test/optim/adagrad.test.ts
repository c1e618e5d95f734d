import { test } from 'vitest'
import { Adagrad } from '../../lib/index.js'
import { adagrad } from '../reference/adagrad.js'
import { onEveryDevice } from '../support/devices.js'
import { expectRule } from '../support/optimizer.js'

onEveryDevice((device) => {
  test('equals the float64 rule over five steps, touched rows only', () =>
    expectRule(device, {
      optimizer: (p) => new Adagrad(p, { lr: 0.1 }),
      rule: adagrad,
      hyper: { lr: 0.1 },
    }))
})
