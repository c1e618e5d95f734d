// What all optimizers share: the parameters of one device, each once, and their named states.

import { disposeOnError } from './atomically.js'
import { native, type OptimizerHandle, type TensorHandle } from './binding.js'
import { isObject } from './describe.js'
import type { Device } from './device.js'
import { isHalf } from './dtype.js'
import { fail, isArray } from './errors.js'
import { checkLearningRate, type Hyperparameters } from './hyperparameters.js'
import { inspect } from './inspect.js'
import { overwrite } from './overwrite.js'
import type { DenseParameter, Parameter, TableParameter } from './parameter.js'
import { loadStateDict, type StateDict, type StateEntry, stateDictOf } from './state-dict.js'
import { Tensor, tensorHandle } from './tensor.js'
import { ValueTable } from './value-table.js'

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

/** Parameters of one device, each once however many layers share it. */
export interface ParameterGroup {
  device: Device
  dense: readonly DenseParameter[]
  tables: readonly TrainedTable[]
}

/** A table's parameter without its gradient, which is computed anew at each access. */
type TrainedTable = Omit<TableParameter, 'grad'>

export function groupParameters(where: string, parameters: readonly Parameter[]): ParameterGroup {
  const count = isArray(parameters) ? parameters.length : 0
  if (!(count > 0)) {
    const requirement = 'be an array of parameters'
    fail('ERR_VALUE', where, 'params', requirement, parameters, 'Pass layer.parameters().')
  }
  let device: Device | undefined
  const dense = new Map<Tensor, DenseParameter>()
  const tables = new Map<ValueTable, TrainedTable>()
  for (let i = 0; i < count; i++) {
    const p = readParameter(where, i, parameters[i])
    tensorHandle(where, p.name, p.value, device)
    device ??= p.value.device
    if (p.kind === 'table') {
      tables.set(p.table, p)
      continue
    }
    tensorHandle(where, `${p.name}.grad`, p.grad, device)
    const listed = dense.get(p.value)
    if (listed && listed.grad !== p.grad)
      fail('ERR_VALUE', where, p.name, 'have one gradient', 'another one the second time')
    dense.set(p.value, p)
  }
  return { device: device as Device, dense: [...dense.values()], tables: [...tables.values()] }
}

/** A parameter that the caller may have made, each of its fields read once. */
function readParameter(where: string, index: number, p: unknown): DenseParameter | TrainedTable {
  if (isObject(p)) {
    const { kind, name, value } = p as Partial<Parameter>
    if (kind === 'dense' && Tensor.is(value)) {
      const { grad } = p as Partial<DenseParameter>
      if (Tensor.is(grad)) return { kind, name: String(name), value, grad }
    }
    if (kind === 'table' && Tensor.is(value)) {
      const { table } = p as Partial<TableParameter>
      if (table instanceof ValueTable && table.weight === value)
        return { kind, name: String(name), value, table }
    }
  }
  const hint = 'Pass layer.parameters(), spread for several layers.'
  fail('ERR_VALUE', where, `params[${index}]`, 'be a parameter of a layer', p, hint)
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
  /** Learning rate; may be set between steps. */
  lr: number
  /** Learning rate of the value tables; undefined: {@link Optimizer.lr}. */
  tableLr: number | undefined
  readonly #name: string
  readonly #hyperparameters: Hyperparameters
  readonly #handle: OptimizerHandle
  readonly #device: Device
  readonly #states: readonly StateEntry[]
  readonly #masters: readonly Master[]

  /** @internal */
  protected constructor(
    name: string,
    rule: Rule,
    parameters: readonly Parameter[],
    hyperparameters: Hyperparameters,
  ) {
    const group = groupParameters(name, parameters)
    this.#name = name
    this.#hyperparameters = hyperparameters
    this.#device = group.device
    this.lr = hyperparameters.lr
    this.tableLr = hyperparameters.tableLr
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
    const { betas, eps, weightDecay, everyRow } = this.#hyperparameters
    const [beta1, beta2] = betas
    const lr = checkLearningRate(this.#name, 'lr', this.lr, this.#hyperparameters)
    const tableLr =
      this.tableLr === undefined
        ? lr
        : checkLearningRate(this.#name, 'tableLr', this.tableLr, this.#hyperparameters)
    native.optimizerStep(this.#handle, lr, beta1, beta2, eps, weightDecay, tableLr, everyRow)
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
    const rates = `lr ${this.lr}${this.tableLr === undefined ? '' : `, tableLr ${this.tableLr}`}`
    const counts = `dense parameters ${dense.length}, tables ${tables.length}`
    return `${this.#name} ${rates}, ${counts}, on ${this.#device.name}`
  }
}

// "step", then "0.keys.exp_avg" …: a position keeps layers apart whose parameters have the same
// names.
function nameStates(
  { device, dense, tables }: ParameterGroup,
  handle: OptimizerHandle,
  names: { state1?: string; state2?: string },
): StateEntry[] {
  const parameters = [...dense, ...tables]
  const states = [...handle.dense, ...handle.tables].flatMap((state, position) => {
    const prefix = `${position}.${parameters[position]?.name}`
    return [
      { name: `${prefix}.${names.state1}`, handle: state.state1 },
      { name: `${prefix}.${names.state2}`, handle: state.state2 },
    ]
  })
  return [{ name: 'step', handle: handle.step }, ...states].flatMap(({ name, handle }) =>
    handle ? [{ name, value: new Tensor(device, handle) }] : [],
  )
}

/** A 16-bit table, whose exact values have a name in the state dict. */
interface Master {
  readonly name: string
  readonly table: ValueTable
}

function nameMasters({ dense, tables }: ParameterGroup): Master[] {
  return tables.flatMap(({ name, table }, i) =>
    isHalf(table.dtype) ? [{ name: `${dense.length + i}.${name}.master`, table }] : [],
  )
}

function exactValues({ device, handle }: ValueTable): Tensor {
  return new Tensor(device, native.tableExact(handle))
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
