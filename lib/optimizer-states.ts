// The states of an optimizer by name, and the exact values of 16-bit tables beside them.

import { keep } from './autograd/tidy.js'
import { native, type OptimizerHandle } from './binding.js'
import { isHalf } from './dtype.js'
import { overwrite } from './overwrite.js'
import type { DistinctParameters } from './parameter-groups.js'
import { noteShard } from './sharding/shard-of.js'
import type { StateEntry } from './state-dict.js'
import { Tensor } from './tensor.js'
import type { ValueTable } from './value-table.js'

/** In the order of native/optim/rule.h. */
export const rules = ['sgd', 'adagrad', 'rowwiseAdagrad', 'adamw'] as const
export type Rule = (typeof rules)[number]

/** Names of a parameter's states in the state dict, as PyTorch has them. */
const stateNames: Record<Rule, { state1?: string; state2?: string }> = {
  sgd: {},
  adagrad: { state1: 'sum' },
  rowwiseAdagrad: { state1: 'sum' },
  adamw: { state1: 'exp_avg', state2: 'exp_avg_sq' },
}

/**
 * "step", then "0.keys.exp_avg" …: a position tells layers from each other whose parameters have
 * the same names.
 */
export function nameStates(
  { device, dense, tables }: DistinctParameters,
  handle: OptimizerHandle,
  rule: Rule,
): StateEntry[] {
  const names = stateNames[rule]
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
export interface Master {
  readonly name: string
  readonly table: ValueTable
}

/** The 16-bit tables. */
export function nameMasters({ dense, tables }: DistinctParameters): Master[] {
  return tables.flatMap(({ name, table }, i) =>
    isHalf(table.dtype) ? [{ name: `${dense.length + i}.${name}.master`, table }] : [],
  )
}

/** The exact values of a 16-bit table, in a new tensor. */
export function exactValues({ device, handle, shard }: ValueTable): Tensor {
  const values = new Tensor(device, native.tableExact(handle))
  noteShard(values, shard)
  return values
}

/** An entry that gives the exact values back to the table. */
export function masterEntry({ name, table }: Master): StateEntry {
  const { device, weight, handle } = table
  const load = (source: Tensor) => {
    const values = device.empty(weight.shape)
    overwrite(values, source)
    native.tableSetExact(handle, values.handle(name, name))
    values.dispose()
  }
  return { name, value: weight, load }
}
