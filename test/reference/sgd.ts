// x = x (1 - lr decay) - lr g.

import type { Rule } from './optimizer.js'

export const sgd: Rule = ({ x, g }, { lr, weightDecay = 0 }) => {
  for (let i = 0; i < x.length; i++) x[i] = x[i]! * (1 - lr * weightDecay) - lr * g[i]!
}
