// The update rules, and clipping of gradients.

import { native } from './binding.js'
import { fail } from './errors.js'
import { gradHandles, groupParameters, type Hyperparameters, Optimizer } from './optimizer.js'
import { checkNumber, checkOptions, choiceIndex } from './options.js'
import type { Parameter } from './parameter.js'
import { Tensor } from './tensor.js'

/** Options of {@link Sgd}, and what all optimizers take. */
export interface SgdOptions {
  /** Learning rate. */
  lr: number
  /** Decoupled: `x -= lr * weightDecay * x` at each step. Default 0. */
  weightDecay?: number
}

/** Options of {@link Adagrad} and {@link RowwiseAdagrad}. */
export interface AdagradOptions extends SgdOptions {
  /** Default 1e-10. */
  eps?: number
}

/** Options of {@link AdamW}. */
export interface AdamWOptions extends SgdOptions {
  /** Default [0.9, 0.999]. */
  betas?: readonly [number, number]
  /** Default 1e-8. */
  eps?: number
  /** Learning rate of the tables. Default lr. */
  tableLr?: number
  /**
   * What happens to rows that no token read: 'lazy' (default) leaves them as they are, and costs
   * O(touched rows); 'dense' decays them and moves them by their old momentum, as dense AdamW does,
   * and costs O(all rows).
   */
  tableMode?: 'lazy' | 'dense'
}

/** The hyperparameters of all rules, with the rule's default of eps. */
function checkHyperparameters(
  where: string,
  options: AdagradOptions,
  defaultEps: number,
): Hyperparameters {
  return {
    lr: checkNumber(where, 'lr', options.lr, 0),
    tableLr: undefined,
    betas: [0, 0],
    eps: checkNumber(where, 'eps', options.eps ?? defaultEps, 0),
    weightDecay: checkNumber(where, 'weightDecay', options.weightDecay ?? 0, 0),
    everyRow: false,
  }
}

/** `x = x (1 - lr weightDecay) - lr g`. */
export class Sgd extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], options: SgdOptions) {
    const checked = checkOptions('Sgd', options, ['lr', 'weightDecay'])
    super('Sgd', 'sgd', params, checkHyperparameters('Sgd', checked, 0))
  }
}

/** `v += g^2; x = x (1 - lr weightDecay) - lr g / (sqrt(v) + eps)` (Duchi et al. 2011). */
export class Adagrad extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], options: AdagradOptions) {
    const checked = checkOptions('Adagrad', options, ['lr', 'weightDecay', 'eps'])
    super('Adagrad', 'adagrad', params, checkHyperparameters('Adagrad', checked, 1e-10))
  }
}

/**
 * Adagrad with one number a table row: `v[row] += mean(g^2)`. Dense parameters take the elementwise
 * rule.
 */
export class RowwiseAdagrad extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], options: AdagradOptions) {
    const where = 'RowwiseAdagrad'
    const checked = checkOptions(where, options, ['lr', 'weightDecay', 'eps'])
    super(where, 'rowwiseAdagrad', params, checkHyperparameters(where, checked, 1e-10))
  }
}

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019), bias-corrected by the global step;
 * tables lazily or densely.
 */
export class AdamW extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], options: AdamWOptions) {
    const where = 'AdamW'
    const names = ['lr', 'betas', 'eps', 'weightDecay', 'tableLr', 'tableMode']
    const { betas, tableLr, tableMode, ...checked } = checkOptions(where, options, names)
    const checkedBetas = checkBetas(where, betas ?? [0.9, 0.999])
    super(where, 'adamw', params, {
      ...checkHyperparameters(where, checked, 1e-8),
      betas: checkedBetas,
      tableLr: tableLr === undefined ? undefined : checkNumber(where, 'tableLr', tableLr, 0),
      everyRow: choiceIndex(where, 'tableMode', tableMode ?? 'lazy', ['lazy', 'dense']) === 1,
    })
  }
}

function checkBetas(where: string, betas: readonly [number, number]): readonly [number, number] {
  if (!Array.isArray(betas) || betas.length !== 2)
    fail('ERR_VALUE', where, 'betas', 'be two numbers', betas)
  for (const [i, beta] of betas.entries()) {
    checkNumber(where, `betas[${i}]`, beta, 0)
    if (beta >= 1) fail('ERR_VALUE', where, `betas[${i}]`, 'be below 1', beta)
  }
  const [beta1, beta2] = betas
  return [beta1, beta2]
}

/**
 * Scales all gradients, dense and of tables, by `min(1, maxNorm / norm)`, where norm is the 2-norm
 * of them all.
 * @returns the norm before, `[1]` float32
 * @throws ERR_VALUE, ERR_DEVICE_MISMATCH
 */
export function clipGradNorm(params: readonly Parameter[], maxNorm: number): Tensor<'float32'> {
  const where = 'clipGradNorm'
  const { device, dense, tables } = groupParameters(where, params)
  checkNumber(where, 'maxNorm', maxNorm, 0)
  const norm = native.clipGradients(
    device.handle,
    gradHandles(where, dense),
    tables.map((p) => p.table.handle),
    maxNorm,
  )
  return new Tensor(device, norm)
}
