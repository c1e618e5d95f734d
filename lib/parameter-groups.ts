// The parameters of one device, each once, and the groups that an optimizer was given them in.

import { isInstance, isObject } from './describe.js'
import type { Device } from './device.js'
import { fail, isArray } from './errors.js'
import { checkBoolean, checkFloat32, checkOptions } from './options.js'
import type { DenseParameter, Parameter, TableParameter } from './parameter.js'
import { Tensor, tensorHandle } from './tensor.js'
import { ValueTable } from './value-table.js'

/** Parameters with rates of their own. What is left out is as the optimizer's options say. */
export interface ParameterGroup {
  /** As `layer.parameters()` gives them; each parameter is in one group. */
  params: readonly Parameter[]
  /** Learning rate: `optimizer.lr` scales it by lr / (the constructor's lr). */
  lr?: number
  /** Learning rate of the memory tables among them, scaled likewise. */
  tableLr?: number
  /** Decoupled weight decay. */
  weightDecay?: number
  /** The rates stay as they are, whatever `optimizer.lr` is set to. Default false. */
  constant?: boolean
}

/** A group as it was given; undefined: as the optimizer's options say. */
export interface GroupOptions {
  /** In messages: '' or 'params[1].'. */
  readonly prefix: string
  readonly lr: number | undefined
  readonly tableLr: number | undefined
  readonly weightDecay: number | undefined
  readonly constant: boolean
}

/** A table's parameter without its gradient, which is computed anew at each access. */
export type TrainedTable = Omit<TableParameter, 'grad'>

/** Parameters of one device, each once however many layers share it. */
export interface DistinctParameters {
  device: Device
  dense: readonly DenseParameter[]
  tables: readonly TrainedTable[]
}

export interface GroupedParameters extends DistinctParameters {
  groups: readonly GroupOptions[]
  /** The group of each parameter, dense ones first. */
  groupOf: readonly number[]
}

/** The parameters of a list. @throws ERR_VALUE, ERR_DISPOSED, ERR_DEVICE_MISMATCH */
export function distinctParameters(
  where: string,
  parameters: readonly Parameter[],
  argument = 'params',
): DistinctParameters {
  const collector = new Collector(where)
  collector.add(argument, parameters, 0)
  return collector.parameters()
}

/** The parameters of an optimizer: a list, or groups. @throws ERR_OPTION and as above */
export function groupedParameters(
  where: string,
  params: readonly Parameter[] | readonly ParameterGroup[],
): GroupedParameters {
  const collector = new Collector(where)
  const none = { lr: undefined, tableLr: undefined, weightDecay: undefined, constant: false }
  if (!isGroups(params)) {
    collector.add('params', params, 0)
    return { ...collector.parameters(), groups: [{ prefix: '', ...none }], groupOf: collector.of() }
  }
  const groups = Array.from(params, (group, i): GroupOptions => {
    const { params: members, ...options } = checkOptions(where, group, groupNames, `params[${i}]`)
    collector.add(`params[${i}].params`, members, i)
    const prefix = `params[${i}].`
    const decay = options.weightDecay
    return {
      ...none,
      ...options,
      prefix,
      weightDecay:
        decay === undefined ? undefined : checkFloat32(where, `${prefix}weightDecay`, decay, 0),
      constant: checkBoolean(where, `${prefix}constant`, options.constant ?? false),
    }
  })
  return { ...collector.parameters(), groups, groupOf: collector.of() }
}

const groupNames = ['params', 'lr', 'tableLr', 'weightDecay', 'constant']

function isGroups(params: unknown): params is readonly ParameterGroup[] {
  return isArray(params) && isObject(params[0]) && 'params' in params[0]
}

class Collector {
  readonly #where: string
  readonly #dense: DenseParameter[] = []
  readonly #tables: TrainedTable[] = []
  readonly #denseGroups: number[] = []
  readonly #tableGroups: number[] = []
  readonly #positions = new Map<Tensor | ValueTable, number>() // in those lists
  #device: Device | undefined

  constructor(where: string) {
    this.#where = where
  }

  add(name: string, parameters: unknown, group: number): void {
    const count = isArray(parameters) ? parameters.length : 0
    if (!(count > 0)) {
      const hint = 'Pass layer.parameters().'
      fail('ERR_VALUE', this.#where, name, 'be an array of parameters', parameters, hint)
    }
    for (let i = 0; i < count; i++)
      this.#addOne(readParameter(this.#where, name, i, (parameters as unknown[])[i]), group)
  }

  #addOne(p: DenseParameter | TrainedTable, group: number): void {
    const where = this.#where
    tensorHandle(where, p.name, p.value, this.#device)
    this.#device ??= p.value.device
    const key = p.kind === 'table' ? p.table : p.value
    const known = this.#positions.get(key)
    const groups = p.kind === 'table' ? this.#tableGroups : this.#denseGroups
    const at = known ?? groups.length
    if (known !== undefined && groups[at] !== group) {
      const found = `params[${groups[at]}] and params[${group}]`
      fail('ERR_VALUE', where, p.name, 'be in one group', found, 'Leave it out of one of them.')
    }
    if (p.kind === 'dense') {
      tensorHandle(where, `${p.name}.grad`, p.grad, this.#device)
      if (known !== undefined && this.#dense[at]!.grad !== p.grad)
        fail('ERR_VALUE', where, p.name, 'have one gradient', 'another one the second time')
      this.#dense[at] = p
    } else this.#tables[at] = p
    groups[at] = group
    if (known === undefined) this.#positions.set(key, at)
  }

  parameters(): DistinctParameters {
    return { device: this.#device as Device, dense: this.#dense, tables: this.#tables }
  }

  of(): number[] {
    return [...this.#denseGroups, ...this.#tableGroups]
  }
}

/** A parameter that the caller may have made, each of its fields read once. */
function readParameter(
  where: string,
  list: string,
  position: number,
  p: unknown,
): DenseParameter | TrainedTable {
  if (isObject(p)) {
    const { kind, name, value } = p as Partial<Parameter>
    if (kind === 'dense' && typeof name === 'string' && Tensor.is(value)) {
      const { grad } = p as Partial<DenseParameter>
      if (Tensor.is(grad)) return { kind, name, value, grad }
    }
    if (kind === 'table' && typeof name === 'string' && Tensor.is(value)) {
      const { table } = p as Partial<TableParameter>
      if (isInstance(table, ValueTable) && table.weight === value)
        return { kind, name, value, table }
    }
  }
  const hint = 'Pass layer.parameters(), spread for several layers.'
  fail('ERR_VALUE', where, `${list}[${position}]`, 'be a parameter of a layer', p, hint)
}
