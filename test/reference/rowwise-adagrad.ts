// Adagrad with one sum for a row: v += mean(g^2), x = x (1 - lr decay) - lr g / (sqrt(v) + eps).

import type { Rule } from './optimizer.js'

export const rowwiseAdagrad: Rule = ({ x, g, v }, { lr, weightDecay = 0, eps = 1e-10 }) => {
  v[0]! += g.reduce((sum, gi) => sum + gi ** 2, 0) / g.length
  for (let i = 0; i < x.length; i++)
    x[i] = x[i]! * (1 - lr * weightDecay) - (lr * g[i]!) / (Math.sqrt(v[0]!) + eps)
}
