// The update rules, and clipping of gradients.

import { native } from './binding.js'
import { checkBetas, checkEps, checkLearningRate, type Hyperparameters } from './hyperparameters.js'
import { gradHandles, namesOf, Optimizer } from './optimizer.js'
import { checkChoice, checkFloat32, checkNumber, checkOptions } from './options.js'
import type { Parameter } from './parameter.js'
import { distinctParameters, type ParameterGroup } from './parameter-groups.js'
import { clipOverRanks } from './sharding/clip.js'
import { Tensor } from './tensor.js'
import type { ValueTable } from './value-table.js'

/** Options of {@link Sgd}, and what all optimizers take. */
export interface SgdOptions {
  /** Learning rate. */
  lr: number
  /** Decoupled: `x -= lr * weightDecay * x` at each step. Default 0. */
  weightDecay?: number
  /**
   * Learning rate of the memory tables; those of an `Embedding` follow lr. Setting `optimizer.lr`
   * scales it. Default lr.
   */
  tableLr?: number
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
  /**
   * What happens to rows that no token read: 'lazy' (default) leaves them as they are, and costs
   * O(touched rows); 'dense' decays them and moves them by their old momentum, as dense AdamW does,
   * and costs O(all rows).
   */
  tableMode?: 'lazy' | 'dense'
}

/** What an optimizer updates: parameters, or groups of them with rates of their own. */
export type OptimizerParams = readonly Parameter[] | readonly ParameterGroup[]

/** The hyperparameters of all rules; defaultEps undefined: of a rule without eps. */
function checkHyperparameters(
  where: string,
  options: AdagradOptions,
  defaultEps?: number,
  betas: readonly [number, number] = [0, 0],
): Hyperparameters {
  const weightDecay = checkFloat32(where, 'weightDecay', options.weightDecay ?? 0, 0)
  const { lr, tableLr } = options
  const rate = (name: string, value: unknown) =>
    checkLearningRate(where, name, value, { weightDecay, betas })
  return {
    lr: rate('lr', lr),
    tableLr: tableLr === undefined ? undefined : rate('tableLr', tableLr),
    betas,
    eps: defaultEps === undefined ? 0 : checkEps(where, options.eps ?? defaultEps),
    weightDecay,
    everyRow: false,
  }
}

const sgdNames = ['lr', 'weightDecay', 'tableLr']
const adagradNames = [...sgdNames, 'eps']

/** `x = x (1 - lr weightDecay) - lr g`. */
export class Sgd extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: OptimizerParams, options: SgdOptions) {
    const checked = checkOptions('Sgd', options, sgdNames)
    super('Sgd', 'sgd', params, checkHyperparameters('Sgd', checked))
  }
}

/** `v += g^2; x = x (1 - lr weightDecay) - lr g / (sqrt(v) + eps)` (Duchi et al. 2011). */
export class Adagrad extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: OptimizerParams, options: AdagradOptions) {
    const checked = checkOptions('Adagrad', options, adagradNames)
    super('Adagrad', 'adagrad', params, checkHyperparameters('Adagrad', checked, 1e-10))
  }
}

/**
 * Adagrad with one number a table row: `v[row] += mean(g^2)`. Dense parameters take the elementwise
 * rule.
 */
export class RowwiseAdagrad extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: OptimizerParams, options: AdagradOptions) {
    const where = 'RowwiseAdagrad'
    const checked = checkOptions(where, options, adagradNames)
    super(where, 'rowwiseAdagrad', params, checkHyperparameters(where, checked, 1e-10))
  }
}

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019), bias-corrected by the global step;
 * tables lazily or densely.
 */
export class AdamW extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: OptimizerParams, options: AdamWOptions) {
    const where = 'AdamW'
    const names = [...adagradNames, 'betas', 'tableMode']
    const { betas, tableMode, ...checked } = checkOptions(where, options, names)
    const momenta = checkBetas(where, betas ?? [0.9, 0.999])
    const mode = checkChoice(where, 'tableMode', tableMode, ['lazy', 'dense'])
    const hyperparameters = checkHyperparameters(where, checked, 1e-8, momenta)
    super(where, 'adamw', params, { ...hyperparameters, everyRow: mode === 'dense' })
  }
}

/** Options of {@link clipGradNorm}. */
export interface ClipOptions {
  /**
   * 'together' (default) scales all gradients by their common norm; 'apart' scales those of memory
   * tables by their norm and all the rest by its own, as the published recipe does.
   */
  tables?: 'together' | 'apart'
}

/**
 * Scales all gradients, dense and of tables, by `min(1, maxNorm / norm)`, where norm is the 2-norm
 * of them all: computed in float64, so that gradients of any size are scaled rightly. A NaN or
 * infinite gradient is seen in the norm. The gradient of a table is summed row by row, and never
 * held. Of tables that are divided among ranks, the columns of all count: every rank must call it,
 * with gradients that are otherwise the same (`fit` with `world` sees to that).
 * @returns the norm before, `[1]` float32: Infinity if it is more than a float32 can be; with
 * `tables: 'apart'` `[2]`: that of dense parameters and embeddings, and that of memory tables
 * @throws ERR_VALUE, also where two gradients share memory; ERR_DTYPE, ERR_UNSUPPORTED for a
 * gradient that is mapped from a file, ERR_DISPOSED, ERR_DEVICE_MISMATCH, ERR_OPTION
 */
export function clipGradNorm(
  params: readonly Parameter[],
  maxNorm: number,
  options?: ClipOptions,
): Tensor<'float32'> {
  const where = 'clipGradNorm'
  const checked = checkOptions(where, options, ['tables'])
  const mode = checkChoice(where, 'tables', checked.tables, ['together', 'apart'])
  const { device, dense, tables } = distinctParameters(where, params)
  checkNumber(where, 'maxNorm', maxNorm, 0)
  const isApart = (table: ValueTable) => mode === 'apart' && !table.embedding
  if (tables.some(({ table }) => table.shard)) {
    const parts = [{ dense, tables: tables.filter(({ table }) => !isApart(table)) }]
    if (mode === 'apart')
      parts.push({ dense: [], tables: tables.filter(({ table }) => isApart(table)) })
    return clipOverRanks(device, parts, maxNorm)
  }
  const handles = (apart: boolean) =>
    tables.filter(({ table }) => isApart(table) === apart).map(({ table }) => table.handle)
  const norm = native.clipGradients(
    device.handle,
    namesOf(dense),
    gradHandles(where, dense),
    handles(false),
    mode === 'apart' ? handles(true) : undefined,
    maxNorm,
  )
  return new Tensor(device, norm)
}
