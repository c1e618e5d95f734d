// loss[t] = log(sum(exp(logits[t]))) - logits[t, target[t]]; 0 where the target is -1. Float64.

import { softmax } from './softmax.js'

export function crossEntropy(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  C: number,
): Float64Array {
  return Float64Array.from(targets, (target, t) => {
    if (target < 0) return 0
    let max = -Infinity
    for (let c = 0; c < C; c++) max = Math.max(max, logits[t * C + c]!)
    let sum = 0
    for (let c = 0; c < C; c++) sum += Math.exp(logits[t * C + c]! - max)
    return max + Math.log(sum) - logits[t * C + target]!
  })
}

/** (softmax(logits) - one_hot(target)) * dLoss; zeros for ignored tokens. */
export function crossEntropyBackward(
  dLoss: ArrayLike<number>,
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  C: number,
): Float64Array {
  const dLogits = softmax(logits, C)
  for (let t = 0; t < targets.length; t++) {
    const target = targets[t]!
    for (let c = 0; c < C; c++) {
      const i = t * C + c
      const d = dLogits[i]! - (c === target ? 1 : 0)
      dLogits[i] = target < 0 ? 0 : dLoss[t]! * d
    }
  }
  return dLogits
}
