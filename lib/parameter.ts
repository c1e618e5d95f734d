import { keep } from './autograd/tidy.js'
import type { ParameterHandle } from './binding.js'
import { refuseInCapture } from './capturing.js'
import type { Device } from './device.js'
import { inspectable } from './inspect.js'
import { makesParameters } from './made-tensors.js'
import type { SparseGrad } from './ops.js'
import type { StateEntry } from './state-dict.js'
import { formatShape, Tensor } from './tensor.js'
import type { ValueTable } from './value-table.js'

/** A dense parameter: an optimizer updates all of it from a gradient of its shape. */
export interface DenseParameter {
  /** Distinguishes dense parameters from tables. */
  readonly kind: 'dense'
  /** As in the state dict. */
  readonly name: string
  /** The live values. */
  readonly value: Tensor<'float32'>
  /** Added to by backward, until the optimizer's zeroGrad. */
  readonly grad: Tensor<'float32'>
}

/** A value table: an optimizer updates the rows that were read. */
export interface TableParameter {
  /** Distinguishes tables from dense parameters. */
  readonly kind: 'table'
  /** As in the state dict. */
  readonly name: string
  /** The live rows, `[slots, dim]`. */
  readonly value: Tensor
  /** The merged gradient of all reads so far, computed anew at each access; dispose it. */
  readonly grad: SparseGrad
  /** The table itself, with its queue of reads. */
  readonly table: ValueTable
}

/** What an optimizer updates; `kind` says which. */
export type Parameter = DenseParameter | TableParameter

function describeParameter({ name, kind, value }: Parameter): string {
  const shape = `${value.dtype} ${formatShape(value.shape)}`
  return `Parameter ${name}: ${kind} ${shape} on ${value.device.name}`
}

export function denseParameter(
  name: string,
  value: Tensor<'float32'>,
  grad: Tensor<'float32'>,
): DenseParameter {
  refuseInCapture(`new parameter "${name}"`, value.device, ...makesParameters)
  value.setLeaf({ grad, into: () => grad })
  keep(value)
  keep(grad)
  return inspectable({ kind: 'dense', name, value, grad }, describeParameter)
}

/** The dense parameters of a native layer. */
export function denseParameters(
  device: Device,
  handles: readonly ParameterHandle[],
): DenseParameter[] {
  return handles.map(({ name, value, grad }) =>
    denseParameter(name, new Tensor(device, value), new Tensor(device, grad)),
  )
}

export function tableParameter(name: string, table: ValueTable): TableParameter {
  const parameter: TableParameter = {
    kind: 'table',
    name,
    value: table.weight,
    table,
    get grad() {
      return table.gradient()
    },
  }
  return inspectable(parameter, describeParameter)
}

/**
 * What a state dict is loaded into; names in `optional` may be left out of it. The rows of a mapped
 * table stay those of its file.
 */
export function stateEntries(
  parameters: readonly Parameter[],
  { optional = [] }: { optional?: readonly string[] } = {},
): StateEntry[] {
  return parameters.map((p) => ({
    name: p.name,
    value: p.value,
    readOnly: p.kind === 'table' && p.table.mapped,
    optional: optional.includes(p.name),
  }))
}
