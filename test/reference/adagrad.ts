// v += g^2, x = x (1 - lr decay) - lr g / (sqrt(v) + eps).

import type { Rule } from './optimizer.js'

export const adagrad: Rule = ({ x, g, v }, { lr, weightDecay = 0, eps = 1e-10 }) => {
  for (let i = 0; i < x.length; i++) {
    v[i]! += g[i]! ** 2
    x[i] = x[i]! * (1 - lr * weightDecay) - (lr * g[i]!) / (Math.sqrt(v[i]!) + eps)
  }
}
