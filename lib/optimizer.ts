// What all optimizers share: the parameters of one device, each once, and their named states.

import { disposeOnError } from './atomically.js'
import { native, type OptimizerHandle, type TensorHandle } from './binding.js'
import { capturing, noteParameters, refuseInCapture, type UsedParameter } from './capturing.js'
import { chosenRows } from './chosen-rows.js'
import { describeValue } from './describe.js'
import type { Device } from './device.js'
import { fail } from './errors.js'
import type { Hyperparameters } from './hyperparameters.js'
import { inspect } from './inspect.js'
import { LearningRates } from './learning-rates.js'
import { makesParameters } from './made-tensors.js'
import type { Indices } from './ops/indices.js'
import {
  exactValues,
  type Master,
  masterEntry,
  nameMasters,
  nameStates,
  type Rule,
  rules,
} from './optimizer-states.js'
import { checkOptions } from './options.js'
import type { DenseParameter, Parameter } from './parameter.js'
import {
  type GroupedParameters,
  groupedParameters,
  type ParameterGroup,
} from './parameter-groups.js'
import { loadStateDict, type StateDict, type StateEntry, stateDictOf } from './state-dict.js'
import type { ValueTable } from './value-table.js'

/** For messages of native code. */
export function namesOf(parameters: readonly { readonly name: string }[]): string[] {
  return parameters.map(({ name }) => name)
}

export function gradHandles(where: string, dense: readonly DenseParameter[]): TensorHandle[] {
  return dense.map((p) => p.grad.handle(where, `${p.name}.grad`))
}

/** Options of {@link Optimizer.step}. */
export interface StepOptions {
  /**
   * Rows that may be updated: slots below N, or -1, which counts for nothing. An optimizer of
   * several tables takes a Map of them by table; a table that is not in it stays as it is.
   */
  rows?: Indices | ReadonlyMap<ValueTable, Indices>
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
  readonly #tables: readonly ValueTable[]
  readonly #parameters: readonly UsedParameter[]

  /** @internal */
  protected constructor(
    name: string,
    rule: Rule,
    params: readonly Parameter[] | readonly ParameterGroup[],
    hyperparameters: Hyperparameters,
  ) {
    const group = groupedParameters(name, params)
    refuseInCapture(`new ${name}`, group.device, ...makesParameters)
    this.#parameters = [...group.dense, ...group.tables]
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
    this.#states = nameStates(group, this.#handle, rule)
    this.#masters = nameMasters(group)
    this.#tables = group.tables.map((p) => p.table)
  }

  /**
   * Updates every dense parameter and every touched row from the gradients so far, which stay until
   * {@link Optimizer.zeroGrad}. With `rows` only those of them that were touched are updated: other
   * rows, tables without rows, dense parameters and their moments keep every bit. That takes time
   * for the reads and the rows, however many rows a table has.
   * @throws ERR_VALUE, ERR_DISPOSED, ERR_OPTION; with `rows` also ERR_INDEX_RANGE, of a tensor at
   * the next wait, ERR_DTYPE, ERR_DEVICE_MISMATCH, and ERR_UNSUPPORTED with `tableMode: 'dense'`
   */
  step(options?: StepOptions): void {
    const where = `${this.#name}.step`
    const { rows } = checkOptions(where, options, ['rows'])
    if (rows === undefined) {
      this.stepIf(undefined)
      return
    }
    if (this.#hyperparameters.everyRow) {
      const hint = 'Make an optimizer with the default, lazy.'
      fail('ERR_UNSUPPORTED', where, 'rows', "be left out with tableMode 'dense'", rows, hint)
    }
    const chosen = chosenRows(where, rows, this.#tables, this.#device)
    try {
      this.#step(undefined, chosen.handles)
    } finally {
      for (const tensor of chosen.temporary) tensor.dispose()
    }
  }

  /** @internal A step that updates nothing if the tensor `condition` turns out to be void. */
  stepIf(condition: TensorHandle | undefined): void {
    this.#step(condition, undefined)
  }

  #step(condition: TensorHandle | undefined, rows: (TensorHandle | undefined)[] | undefined): void {
    const { betas, eps, everyRow } = this.#hyperparameters
    const rates = this.#currentRates()
    const onDevice = this.#capturedRates()
    const [beta1, beta2] = betas
    native.optimizerStep(
      this.#handle,
      rates,
      beta1,
      beta2,
      eps,
      everyRow,
      condition,
      onDevice,
      rows,
    )
    for (const table of this.#tables) table.countJournal()
  }

  /** Rate and weight decay of each parameter. */
  #currentRates(): Float64Array {
    const rates = this.#rates.current()
    const perParameter = this.#perParameter
    if (rates !== this.#filled) {
      for (const [i, at] of this.#groupOf.entries()) {
        perParameter[2 * i] = rates[at]!
        perParameter[2 * i + 1] = rates[at + 1]!
      }
      this.#filled = rates
    }
    return perParameter
  }

  /** In a capture, where the rates are on the device: each replay writes them as they are then. */
  #capturedRates(): TensorHandle | undefined {
    this.#noteUse()
    const count = this.#parameters.length
    if (count === 0) return undefined
    return capturing(this.#device)?.numbersOf(this, 'float32', count, (into) => {
      const rates = this.#currentRates()
      for (let i = 0; i < count; i++) into.setFloat32(4 * i, rates[2 * i]!, true)
    })
  }

  #noteUse(): void {
    if (!capturing(this.#device)) return
    noteParameters(this.#parameters)
    for (const { value } of this.#states) value.handle(this.#name, 'state')
  }

  #refuseInCapture(name: string): void {
    const hint = 'Set it before, or between replays.'
    refuseInCapture(`optimizer.${name}`, this.#device, 'it is set on the host', hint)
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
    this.#refuseInCapture('lr')
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
    this.#refuseInCapture('tableLr')
    this.#rates.tableLr = value
  }

  /** Sets the dense gradients to zero and empties the tables' queues. */
  zeroGrad(): void {
    this.#noteUse()
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
