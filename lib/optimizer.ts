// What all optimizers share: the parameters of one device, each once, and their named states.

import { native, type OptimizerHandle, type TensorHandle } from './binding.js'
import { isObject } from './describe.js'
import type { Device } from './device.js'
import { fail, isArray } from './errors.js'
import { checkLearningRate, type Hyperparameters } from './hyperparameters.js'
import { inspect } from './inspect.js'
import type { DenseParameter, Parameter, TableParameter } from './parameter.js'
import { loadStateDict, type StateDict, stateDictOf } from './state-dict.js'
import { Tensor, tensorHandle } from './tensor.js'

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
  tables: readonly TableParameter[]
}

export function groupParameters(where: string, parameters: readonly Parameter[]): ParameterGroup {
  if (!isArray(parameters) || parameters.length === 0) {
    const requirement = 'be an array of parameters'
    fail('ERR_VALUE', where, 'params', requirement, parameters, 'Pass layer.parameters().')
  }
  const first: unknown = parameters[0]
  checkParameter(where, 0, first)
  const { device } = first.value
  const dense = new Map<Tensor, DenseParameter>()
  const tables = new Map<unknown, TableParameter>()
  for (const [i, p] of parameters.entries()) {
    checkParameter(where, i, p)
    tensorHandle(where, p.name, p.value, device)
    if (p.kind === 'table') {
      tables.set(p.table, p)
    } else {
      tensorHandle(where, `${p.name}.grad`, p.grad, device)
      dense.set(p.value, p)
    }
  }
  return { device, dense: [...dense.values()], tables: [...tables.values()] }
}

function checkParameter(where: string, index: number, p: unknown): asserts p is Parameter {
  const known = isObject(p) && 'kind' in p && 'value' in p
  if (known && Tensor.is(p.value) && (p.kind === 'dense' || p.kind === 'table')) return
  const hint = 'Pass layer.parameters(), spread for several layers.'
  fail('ERR_VALUE', where, `params[${index}]`, 'be a parameter of a layer', p, hint)
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
  readonly #states: readonly NamedState[]

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
      rules.indexOf(rule),
      group.dense.map((p) => p.value.handle(name, p.name)),
      gradHandles(name, group.dense),
      group.tables.map((p) => p.table.handle),
    )
    this.#states = nameStates(group, this.#handle, stateNames[rule])
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
   * The live states by name: `step`, and for each parameter `<position>.<name>.<state>`. With the
   * parameters' own state dicts a training run resumes bit for bit.
   */
  stateDict(): StateDict {
    return stateDictOf(this.#states)
  }

  /** Copies states in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    loadStateDict(`${this.#name}.loadStateDict`, this.#states, state)
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

interface NamedState {
  readonly name: string
  readonly value: Tensor
}

// "step", then "0.keys.exp_avg" …: a position keeps layers apart whose parameters have the same
// names.
function nameStates(
  { device, dense, tables }: ParameterGroup,
  handle: OptimizerHandle,
  names: { state1?: string; state2?: string },
): NamedState[] {
  const parameters = [...dense, ...tables]
  const states = [...handle.dense, ...handle.tables].flatMap((state, position) => {
    const prefix = `${position}.${parameters[position]?.name}`
    return [
      { name: `${prefix}.${names.state1}`, handle: state.state1 },
      { name: `${prefix}.${names.state2}`, handle: state.state2 },
      { name: `${prefix}.master`, handle: state.master },
    ]
  })
  return [{ name: 'step', handle: handle.step }, ...states].flatMap(({ name, handle }) =>
    handle ? [{ name, value: new Tensor(device, handle) }] : [],
  )
}
