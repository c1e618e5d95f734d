// The update rules, and clipping of gradients.

import { native } from './binding.js'
import { checkBetas, checkEps, checkLearningRate, type Hyperparameters } from './hyperparameters.js'
import { gradHandles, groupParameters, namesOf, Optimizer } from './optimizer.js'
import { checkFloat32, checkNumber, checkOptions, choiceIndex } from './options.js'
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
  /** Above 0 in float32. Default 1e-10. */
  eps?: number
}

/** Options of {@link AdamW}. */
export interface AdamWOptions extends SgdOptions {
  /** In [0, 1) in float32. Default [0.9, 0.999]. */
  betas?: readonly [number, number]
  /** Above 0 in float32. Default 1e-8. */
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

/** The hyperparameters of all rules; defaultEps undefined: of a rule without eps. */
function checkHyperparameters(
  where: string,
  options: AdagradOptions,
  defaultEps?: number,
  betas: readonly [number, number] = [0, 0],
): Hyperparameters {
  const weightDecay = checkFloat32(where, 'weightDecay', options.weightDecay ?? 0, 0)
  return {
    lr: checkLearningRate(where, 'lr', options.lr, { weightDecay, betas }),
    tableLr: undefined,
    betas,
    eps: defaultEps === undefined ? 0 : checkEps(where, options.eps ?? defaultEps),
    weightDecay,
    everyRow: false,
  }
}

/** `x = x (1 - lr weightDecay) - lr g`. */
export class Sgd extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], options: SgdOptions) {
    const checked = checkOptions('Sgd', options, ['lr', 'weightDecay'])
    super('Sgd', 'sgd', params, checkHyperparameters('Sgd', checked))
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
    const momenta = checkBetas(where, betas ?? [0.9, 0.999])
    const hyperparameters = checkHyperparameters(where, checked, 1e-8, momenta)
    super(where, 'adamw', params, {
      ...hyperparameters,
      tableLr:
        tableLr === undefined
          ? undefined
          : checkLearningRate(where, 'tableLr', tableLr, hyperparameters),
      everyRow: choiceIndex(where, 'tableMode', tableMode ?? 'lazy', ['lazy', 'dense']) === 1,
    })
  }
}

/**
 * Scales all gradients, dense and of tables, by `min(1, maxNorm / norm)`, where norm is the 2-norm
 * of them all: computed in float64, so that gradients of any size are scaled rightly. A NaN or
 * infinite gradient is seen in the norm.
 * @returns the norm before, `[1]` float32: Infinity if it is more than a float32 can be
 * @throws ERR_VALUE, also where two gradients share memory; ERR_DTYPE, ERR_UNSUPPORTED for a
 * gradient that is mapped from a file, ERR_DISPOSED, ERR_DEVICE_MISMATCH
 */
export function clipGradNorm(params: readonly Parameter[], maxNorm: number): Tensor<'float32'> {
  const where = 'clipGradNorm'
  const { device, dense, tables } = groupParameters(where, params)
  checkNumber(where, 'maxNorm', maxNorm, 0)
  const norm = native.clipGradients(
    device.handle,
    namesOf(dense),
    gradHandles(where, dense),
    tables.map((p) => p.table.handle),
    maxNorm,
  )
  return new Tensor(device, norm)
}
