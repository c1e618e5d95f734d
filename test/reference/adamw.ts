// Adam with bias correction and decoupled weight decay (Loshchilov and Hutter 2019).

import type { Rule } from './optimizer.js'

export const adamw: Rule = (
  { x, g, m, v },
  { lr, weightDecay = 0, eps = 1e-8, betas = [0.9, 0.999] },
  step,
) => {
  const [beta1, beta2] = betas
  for (let i = 0; i < x.length; i++) {
    m[i] = beta1 * m[i]! + (1 - beta1) * g[i]!
    v[i] = beta2 * v[i]! + (1 - beta2) * g[i]! ** 2
    const mHat = m[i]! / (1 - beta1 ** step)
    const vHat = v[i]! / (1 - beta2 ** step)
    x[i] = x[i]! * (1 - lr * weightDecay) - (lr * mHat) / (Math.sqrt(vHat) + eps)
  }
}
