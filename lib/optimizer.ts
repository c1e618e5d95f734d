// What all optimizers share: the parameters of one device, each once, and their named states.

import { disposeOnError } from './atomically.js'
import { keep } from './autograd/tidy.js'
import { native, type OptimizerHandle, type TensorHandle } from './binding.js'
import { describeValue } from './describe.js'
import type { Device } from './device.js'
import { isHalf } from './dtype.js'
import { fail } from './errors.js'
import type { Hyperparameters } from './hyperparameters.js'
import { inspect } from './inspect.js'
import { LearningRates } from './learning-rates.js'
import { overwrite } from './overwrite.js'
import type { DenseParameter, Parameter } from './parameter.js'
import {
  type DistinctParameters,
  type GroupedParameters,
  groupedParameters,
  type ParameterGroup,
} from './parameter-groups.js'
import { noteShard } from './sharding/shard-of.js'
import { loadStateDict, type StateDict, type StateEntry, stateDictOf } from './state-dict.js'
import { Tensor } from './tensor.js'
import type { ValueTable } from './value-table.js'

// In the order of native/optim/rule.h.
const rules = ['sgd', 'adagrad', 'rowwiseAdagrad', 'adamw'] as const
type Rule = (typeof rules)[number]

/** Names of a parameter's states in the state dict, as PyTorch has them. */
const stateNames: Record<Rule, { state1?: string; state2?: string }> = {
  sgd: {},
  adagrad: { state1: 'sum' },
  rowwiseAdagrad: { state1: 'sum' },
  adamw: { state1: 'exp_avg', state2: 'exp_avg_sq' },
}

/** For messages of native code. */
export function namesOf(parameters: readonly { readonly name: string }[]): string[] {
  return parameters.map(({ name }) => name)
}

export function gradHandles(where: string, dense: readonly DenseParameter[]): TensorHandle[] {
  return dense.map((p) => p.grad.handle(where, `${p.name}.grad`))
}

/**
 * What all optimizers share. A step is one native call: every dense parameter, then each table's
 * touched rows once.
 */
export abstract class Optimizer {
  readonly #name: string
  readonly #rates: LearningRates
  readonly #groupOf: readonly number[]
  readonly #perParameter: Float64Array
  #filled: readonly number[] | undefined // what #perParameter was filled with
  readonly #hyperparameters: Hyperparameters
  readonly #handle: OptimizerHandle
  readonly #device: Device
  readonly #states: readonly StateEntry[]
  readonly #masters: readonly Master[]

  /** @internal */
  protected constructor(
    name: string,
    rule: Rule,
    params: readonly Parameter[] | readonly ParameterGroup[],
    hyperparameters: Hyperparameters,
  ) {
    const group = groupedParameters(name, params)
    const divided = group.tables.find((p) => p.table.shard)
    if (divided && rule === 'rowwiseAdagrad') {
      const requirement = 'be whole, as the rule has one number of a whole row'
      const hint = 'AdamW, Adagrad and Sgd train tables whose columns are divided.'
      fail('ERR_UNSUPPORTED', name, divided.name, requirement, 'a table with "shard"', hint)
    }
    this.#name = name
    this.#hyperparameters = hyperparameters
    this.#device = group.device
    this.#rates = new LearningRates(name, hyperparameters, group.groups)
    this.#groupOf = ratesOf(group)
    this.#perParameter = new Float64Array(2 * this.#groupOf.length)
    this.#handle = native.optimizerCreate(
      group.device.handle,
      name,
      rules.indexOf(rule),
      namesOf([...group.dense, ...group.tables]),
      group.dense.map((p) => p.value.handle(name, p.name)),
      gradHandles(name, group.dense),
      group.tables.map((p) => p.table.handle),
    )
    this.#states = nameStates(group, this.#handle, stateNames[rule])
    this.#masters = nameMasters(group)
  }

  /**
   * Updates every dense parameter and every touched row from the gradients so far, which stay until
   * {@link Optimizer.zeroGrad}.
   * @throws ERR_VALUE, ERR_DISPOSED
   */
  step(): void {
    this.stepIf(undefined)
  }

  /** @internal A step that updates nothing if the tensor `condition` turns out to be void. */
  stepIf(condition: TensorHandle | undefined): void {
    const { betas, eps, everyRow } = this.#hyperparameters
    const rates = this.#rates.current()
    const perParameter = this.#perParameter
    if (rates !== this.#filled) {
      for (const [i, at] of this.#groupOf.entries()) {
        perParameter[2 * i] = rates[at]!
        perParameter[2 * i + 1] = rates[at + 1]!
      }
      this.#filled = rates
    }
    const [beta1, beta2] = betas
    native.optimizerStep(this.#handle, perParameter, beta1, beta2, eps, everyRow, condition)
  }

  /**
   * Learning rate; may be set between steps. It scales every group, and the memory tables, by lr /
   * {@link Optimizer.baseLr}.
   */
  get lr(): number {
    return this.#rates.lr
  }

  /** From the next step on. */
  set lr(value: number) {
    this.#rates.lr = value
  }

  /** The constructor's `lr`: what a schedule's factors are of. */
  get baseLr(): number {
    return this.#rates.base
  }

  /**
   * Learning rate of the memory tables as it is now; undefined: {@link Optimizer.lr}. Once it is
   * set it stays, whatever lr is set to.
   */
  get tableLr(): number | undefined {
    return this.#rates.tableLr
  }

  /** From the next step on. */
  set tableLr(value: number | undefined) {
    this.#rates.tableLr = value
  }

  /** Sets the dense gradients to zero and empties the tables' queues. */
  zeroGrad(): void {
    native.optimizerZeroGrad(this.#handle)
  }

  /**
   * The live states by name: `step`, and for each parameter `<position>.<name>.<state>`. A 16-bit
   * table has `master` as well, its exact values in a float32 tensor that is made at the call.
   * With the parameters' own state dicts, loaded before it, a training run resumes bit for bit.
   * @throws ERR_OUT_OF_MEMORY
   */
  stateDict(): StateDict {
    const masters = disposeOnError(() =>
      this.#masters.map(({ name, table }) => ({ name, value: exactValues(table) })),
    )
    return stateDictOf([...this.#states, ...masters])
  }

  /**
   * Copies states in, all or nothing. The `master` of a 16-bit table gives it back its exact values
   * where they round to what the table holds; so load the table first.
   * @throws ERR_STATE_DICT
   */
  loadStateDict(state: StateDict): void {
    const masters = this.#masters.map(masterEntry)
    loadStateDict(`${this.#name}.loadStateDict`, [...this.#states, ...masters], state)
  }

  /** Frees the states. */
  dispose(): void {
    native.optimizerDispose(this.#handle)
    for (const { value } of this.#states) value.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    const { dense, tables } = this.#handle
    const { lr, tableLr } = this
    const table = tableLr === undefined ? '' : `, tableLr ${describeValue(tableLr)}`
    const rates = `lr ${describeValue(lr)}${table}`
    const counts = `dense parameters ${dense.length}, tables ${tables.length}`
    return `${this.#name} ${rates}, ${counts}, on ${this.#device.name}`
  }
}

// Of each parameter, dense ones first, where LearningRates.current() has its numbers. The rows of
// an embedding follow lr; tableLr is of memory tables.
function ratesOf({ dense, tables, groupOf }: GroupedParameters): number[] {
  return [...dense, ...tables].map((p, i) => {
    const memory = p.kind === 'table' && !p.table.embedding
    return 4 * groupOf[i]! + (memory ? 2 : 0)
  })
}

// "step", then "0.keys.exp_avg" …: a position keeps layers apart whose parameters have the same
// names.
function nameStates(
  { device, dense, tables }: DistinctParameters,
  handle: OptimizerHandle,
  names: { state1?: string; state2?: string },
): StateEntry[] {
  const parameters = [...dense, ...tables]
  const states = [...handle.dense, ...handle.tables].flatMap((state, position) => {
    const p = parameters[position]!
    const prefix = `${position}.${p.name}`
    const shard = p.kind === 'table' ? p.table.shard : undefined
    return [
      { name: `${prefix}.${names.state1}`, handle: state.state1, shard },
      { name: `${prefix}.${names.state2}`, handle: state.state2, shard },
    ]
  })
  return [{ name: 'step', handle: handle.step, shard: undefined }, ...states].flatMap(
    ({ name, handle, shard }) => {
      if (!handle) return []
      const value = keep(new Tensor(device, handle))
      noteShard(value, shard)
      return [{ name, value }]
    },
  )
}

/** A 16-bit table, whose exact values have a name in the state dict. */
interface Master {
  readonly name: string
  readonly table: ValueTable
}

function nameMasters({ dense, tables }: DistinctParameters): Master[] {
  return tables.flatMap(({ name, table }, i) =>
    isHalf(table.dtype) ? [{ name: `${dense.length + i}.${name}.master`, table }] : [],
  )
}

function exactValues({ device, handle, shard }: ValueTable): Tensor {
  const values = new Tensor(device, native.tableExact(handle))
  noteShard(values, shard)
  return values
}

function masterEntry({ name, table }: Master): StateEntry {
  const { device, weight, handle } = table
  const load = (source: Tensor) => {
    const values = device.empty(weight.shape)
    overwrite(values, source)
    native.tableSetExact(handle, values.handle(name, name))
    values.dispose()
  }
  return { name, value: weight, load }
}
