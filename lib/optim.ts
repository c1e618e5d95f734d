import { native, type OptimizerHandle, type StateHandle } from './binding.js'
import type { Device } from './device.js'
import { fail, MemoryLayersError } from './errors.js'
import { choice, number, options } from './options.js'
import {
  type DenseParameter,
  loadInto,
  type Parameter,
  type StateDict,
  type TableParameter,
} from './parameter.js'
import { handles, Tensor } from './tensor.js'

/** Options of {@link Sgd}, and what all optimizers take. */
export interface SgdOptions {
  /** Learning rate. */
  lr: number
  /** Decoupled: x shrinks by lr * weightDecay each update. Default 0. */
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

// In the order of native/optim/rule.h.
const rules = ['sgd', 'adagrad', 'rowwiseAdagrad', 'adamw'] as const
type Rule = (typeof rules)[number]

interface Hyper {
  lr: number
  tableLr: number | undefined
  betas: readonly [number, number]
  eps: number
  weightDecay: number
  everyRow: boolean
}

const stateNames: Record<Rule, readonly string[]> = {
  sgd: [],
  adagrad: ['sum'],
  rowwiseAdagrad: ['sum'],
  adamw: ['exp_avg', 'exp_avg_sq'],
}

/**
 * Dense parameters and value tables, each once however many layers share them; all on one device.
 */
function collect(where: string, parameters: readonly Parameter[]) {
  if (!Array.isArray(parameters) || parameters.length === 0) {
    fail(
      'ERR_VALUE',
      where,
      'params',
      'be an array of parameters',
      parameters,
      'Pass layer.parameters().',
    )
  }
  const dense = new Map<Tensor, DenseParameter>()
  const tables = new Map<unknown, TableParameter>()
  let device: Device | undefined
  for (const [i, p] of parameters.entries()) {
    if (
      typeof p !== 'object' ||
      p === null ||
      !(p.value instanceof Tensor) ||
      (p.kind !== 'dense' && p.kind !== 'table')
    ) {
      fail(
        'ERR_VALUE',
        where,
        `params[${i}]`,
        'be a parameter of a layer',
        p,
        'Pass layer.parameters(), spread for several layers.',
      )
    }
    const all: Record<string, Tensor> =
      p.kind === 'dense' ? { [p.name]: p.value, [`${p.name}.grad`]: p.grad } : { [p.name]: p.value }
    handles(where, all, device)
    device ??= p.value.device
    if (p.kind === 'dense') dense.set(p.value, p)
    else tables.set(p.table, p)
  }
  return { device: device!, dense: [...dense.values()], tables: [...tables.values()] }
}

/**
 * What all optimizers share. A step is one native call: every dense parameter, then each table's
 * touched rows once.
 */
export abstract class Optimizer {
  /** Learning rate; may be set between steps. */
  lr: number
  /** Learning rate of the value tables; undefined: {@link Optimizer.lr}. */
  tableLr: number | undefined
  readonly #name: string
  readonly #rule: Rule
  readonly #hyper: Hyper
  readonly #handle: OptimizerHandle
  readonly #device: Device
  readonly #state: Map<string, Tensor>

  /** @internal */
  protected constructor(name: string, rule: Rule, parameters: readonly Parameter[], hyper: Hyper) {
    const { device, dense, tables } = collect(name, parameters)
    this.#name = name
    this.#rule = rule
    this.#hyper = hyper
    this.#device = device
    this.lr = hyper.lr
    this.tableLr = hyper.tableLr
    this.#handle = native.optimizerCreate(
      device.handle,
      rules.indexOf(rule),
      dense.map((p) => p.value.handle(name, p.name)),
      dense.map((p) => p.grad.handle(name, `${p.name}.grad`)),
      tables.map((p) => p.table.handle),
    )
    this.#state = this.#nameStates(dense, tables)
  }

  // "step", then "0.keys.exp_avg" …: a position keeps layers apart whose parameters have the same
  // names.
  #nameStates(dense: readonly Parameter[], tables: readonly Parameter[]): Map<string, Tensor> {
    const state = new Map([['step', new Tensor(this.#device, this.#handle.step)]])
    const [first, second] = stateNames[this.#rule]
    const add = (p: Parameter, i: number, s: StateHandle) => {
      if (s.state1) state.set(`${i}.${p.name}.${first}`, new Tensor(this.#device, s.state1))
      if (s.state2) state.set(`${i}.${p.name}.${second}`, new Tensor(this.#device, s.state2))
      if (s.master) state.set(`${i}.${p.name}.master`, new Tensor(this.#device, s.master))
    }
    for (const [i, p] of dense.entries()) add(p, i, this.#handle.dense[i]!)
    for (const [i, p] of tables.entries()) add(p, dense.length + i, this.#handle.tables[i]!)
    return state
  }

  /**
   * Updates every dense parameter and every touched row from the gradients so far, which stay until
   * {@link Optimizer.zeroGrad}. @throws ERR_VALUE, ERR_DISPOSED
   */
  step(): void {
    const { betas, eps, weightDecay, everyRow } = this.#hyper
    const lr = number(this.#name, 'lr', this.lr, 0)
    const tableLr = number(this.#name, 'tableLr', this.tableLr ?? lr, 0)
    native.optimizerStep(this.#handle, lr, betas[0], betas[1], eps, weightDecay, tableLr, everyRow)
  }

  /** Sets the dense gradients to zero and empties the tables' queues. */
  zeroGrad(): void {
    native.optimizerZeroGrad(this.#handle)
  }

  /**
   * The live states by name: `step`, and for each parameter `<position>.<name>.<state>`. With the
   * parameters' own state dicts a training run resumes bit for bit.
   */
  stateDict(): StateDict {
    return Object.fromEntries(this.#state)
  }

  /** Copies states in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    const parameters = [...this.#state].map(([name, value]) => ({
      kind: 'dense' as const,
      name,
      value,
      grad: value,
    }))
    loadInto(`${this.#name}.loadStateDict`, parameters, state)
  }

  /** Gives the states back. */
  dispose(): void {
    native.optimizerDispose(this.#handle)
    for (const t of this.#state.values()) t.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

function common(where: string, o: Partial<AdagradOptions>, eps: number): Hyper {
  return {
    lr: number(where, 'lr', o.lr, 0),
    tableLr: undefined,
    betas: [0, 0],
    eps: number(where, 'eps', o.eps ?? eps, 0),
    weightDecay: number(where, 'weightDecay', o.weightDecay ?? 0, 0),
    everyRow: false,
  }
}

/** `x = x (1 - lr weightDecay) - lr g`. */
export class Sgd extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], given: SgdOptions) {
    const o = options('Sgd', given, ['lr', 'weightDecay'])
    super('Sgd', 'sgd', params, common('Sgd', o, 0))
  }
}

/** `v += g^2; x = x (1 - lr weightDecay) - lr g / (sqrt(v) + eps)` (Duchi et al. 2011). */
export class Adagrad extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], given: AdagradOptions) {
    const o = options('Adagrad', given, ['lr', 'weightDecay', 'eps'])
    super('Adagrad', 'adagrad', params, common('Adagrad', o, 1e-10))
  }
}

/**
 * Adagrad with one number a table row: `v[row] += mean(g^2)`. Dense parameters take the elementwise
 * rule.
 */
export class RowwiseAdagrad extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], given: AdagradOptions) {
    const o = options('RowwiseAdagrad', given, ['lr', 'weightDecay', 'eps'])
    super('RowwiseAdagrad', 'rowwiseAdagrad', params, common('RowwiseAdagrad', o, 1e-10))
  }
}

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019), bias-corrected by the global step;
 * tables lazily or densely.
 */
export class AdamW extends Optimizer {
  /** @throws ERR_OPTION, ERR_VALUE, ERR_DEVICE_MISMATCH */
  constructor(params: readonly Parameter[], given: AdamWOptions) {
    const where = 'AdamW'
    const o = options(where, given, ['lr', 'betas', 'eps', 'weightDecay', 'tableLr', 'tableMode'])
    const betas = o.betas ?? [0.9, 0.999]
    if (!Array.isArray(betas) || betas.length !== 2)
      fail('ERR_VALUE', where, 'betas', 'be two numbers', betas)
    for (const [i, b] of betas.entries()) {
      number(where, `betas[${i}]`, b, 0)
      if (b >= 1)
        throw new MemoryLayersError(
          'ERR_VALUE',
          `${where}: "betas[${i}]" must be below 1, got ${b}.`,
        )
    }
    super(where, 'adamw', params, {
      ...common(where, o, 1e-8),
      betas: [betas[0]!, betas[1]!],
      tableLr: o.tableLr === undefined ? undefined : number(where, 'tableLr', o.tableLr, 0),
      everyRow: choice(where, 'tableMode', o.tableMode ?? 'lazy', ['lazy', 'dense']) === 1,
    })
  }
}

/**
 * Scales all gradients, dense and of tables, by `min(1, maxNorm / norm)`, where norm is the 2-norm
 * of them all.
 * @returns the norm before, `[1]` float32
 * @throws ERR_VALUE, ERR_DEVICE_MISMATCH
 */
export function clipGradNorm(params: readonly Parameter[], maxNorm: number): Tensor {
  const where = 'clipGradNorm'
  const { device, dense, tables } = collect(where, params)
  number(where, 'maxNorm', maxNorm, 0)
  const grads = dense.map((p) => p.grad.handle(where, `${p.name}.grad`))
  return new Tensor(
    device,
    native.clipGradients(
      device.handle,
      grads,
      tables.map((p) => p.table.handle),
      maxNorm,
    ),
  )
}
