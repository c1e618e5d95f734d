// The numbers of the update rules. Rules compute in float32, so each number is checked as the
// float32 that it becomes: none may turn a parameter into NaN by itself.

import { describeValue, fail, isArray } from './errors.js'
import { checkFloat32, checkNumber } from './options.js'

/** What all update rules take; a rule without momentum has betas [0, 0]. */
export interface Hyperparameters {
  lr: number
  tableLr: number | undefined
  betas: readonly [number, number]
  eps: number
  weightDecay: number
  /** Tables are updated as dense AdamW does: every row. */
  everyRow: boolean
}

/** Momenta in [0, 1): of 1 they would keep nothing of a gradient, and divide by 0. */
export function checkBetas(where: string, betas: unknown): readonly [number, number] {
  if (!isArray(betas) || betas.length !== 2)
    fail('ERR_VALUE', where, 'betas', 'be two numbers', describeValue(betas))
  const beta = (i: 0 | 1): number => {
    const value = checkNumber(where, `betas[${i}]`, betas[i], 0)
    if (Math.fround(value) >= 1)
      fail('ERR_VALUE', where, `betas[${i}]`, 'be below 1 in float32: at most 0.99999994', value)
    return value
  }
  return [beta(0), beta(1)]
}

/** Above 0: where a gradient was always 0, the rule divides by eps alone. */
export function checkEps(where: string, eps: unknown): number {
  const value = checkFloat32(where, 'eps', eps, 0)
  if (Math.fround(value) === 0)
    fail('ERR_VALUE', where, 'eps', 'be above 0 in float32: at least 1e-45', value)
  return value
}

/**
 * A learning rate with which the rule's factors, `lr weightDecay` and `lr / (1 - beta1)`, are
 * finite.
 */
export function checkLearningRate(
  where: string,
  name: string,
  lr: unknown,
  { weightDecay, betas }: Pick<Hyperparameters, 'weightDecay' | 'betas'>,
): number {
  const value = checkFloat32(where, name, lr, 0)
  if (!Number.isFinite(Math.fround(Math.fround(value) * Math.fround(weightDecay))))
    fail('ERR_VALUE', where, name, 'have a product with weightDecay within float32', value)
  if (!Number.isFinite(Math.fround(value / (1 - Math.fround(betas[0])))))
    fail('ERR_VALUE', where, name, 'be within float32 when divided by 1 - betas[0]', value)
  return value
}
