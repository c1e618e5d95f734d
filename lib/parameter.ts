import { native, type ParameterHandle } from './binding.js'
import type { Device } from './device.js'
import { convertible } from './dtype.js'
import { describe, MemoryLayersError } from './errors.js'
import type { SparseGrad } from './ops.js'
import { Tensor, text } from './tensor.js'
import type { ValueTable } from './value-table.js'

/** A dense parameter: an optimizer updates all of it from a gradient of its shape. */
export interface DenseParameter {
  /** Tells dense parameters from tables. */
  readonly kind: 'dense'
  /** As in the state dict. */
  readonly name: string
  /** The live values. */
  readonly value: Tensor
  /** Added to by backward, until the optimizer's zeroGrad. */
  readonly grad: Tensor
}

/** A value table: an optimizer updates the rows that were read. */
export interface TableParameter {
  /** Tells tables from dense parameters. */
  readonly kind: 'table'
  /** As in the state dict. */
  readonly name: string
  /** The live rows, `[slots, dim]`. */
  readonly value: Tensor
  /** The merged gradient of all reads so far, made anew at each access; dispose it. */
  readonly grad: SparseGrad
  /** The table itself, with its queue of reads. */
  readonly table: ValueTable
}

/** What an optimizer updates; `kind` tells which. */
export type Parameter = DenseParameter | TableParameter

/** Tensors by their published names. */
export type StateDict = Record<string, Tensor>

export function denseParameters(
  device: Device,
  list: readonly ParameterHandle[],
): DenseParameter[] {
  return list.map((p) => ({
    kind: 'dense',
    name: p.name,
    value: new Tensor(device, p.value),
    grad: new Tensor(device, p.grad),
  }))
}

export function tableParameter(name: string, table: ValueTable): TableParameter {
  return {
    kind: 'table',
    name,
    value: table.weight,
    table,
    get grad() {
      return table.gradient()
    },
  }
}

/** The parameters' own tensors by name. They are the live values, not copies. */
export function stateDictOf(parameters: readonly Parameter[]): StateDict {
  return Object.fromEntries(parameters.map((p) => [p.name, p.value]))
}

/**
 * Copies a state dict into parameters: all names, shapes and dtypes are checked first, so on an
 * error nothing was loaded. A tensor may have another shape of the same sizes only as `sameShape`
 * allows (`keys` as `[H*2*n, d]`). The rows of a mapped table stay its file's.
 */
export function loadInto(
  where: string,
  parameters: readonly Parameter[],
  state: StateDict,
  checkOnly: readonly string[] = [],
): void {
  if (typeof state !== 'object' || state === null) {
    throw new MemoryLayersError(
      'ERR_STATE_DICT',
      `${where}: the state dict must be an object of tensors by name, got ${describe(state)}.`,
    )
  }
  const byName = new Map(parameters.map((p) => [p.name, p]))
  for (const name of Object.keys(state)) {
    if (!byName.has(name)) {
      throw new MemoryLayersError(
        'ERR_STATE_DICT',
        `${where}: unknown name "${name}".\n  This layer has: ${[...byName.keys()].join(', ')}.`,
      )
    }
  }
  const copies: [Tensor, Tensor][] = []
  for (const p of parameters) {
    const given = state[p.name]
    if (given === undefined) {
      if (checkOnly.includes(p.name)) continue
      throw new MemoryLayersError(
        'ERR_STATE_DICT',
        `${where}: "${p.name}" ${text(p.value.shape)} is missing.`,
      )
    }
    if (!(given instanceof Tensor)) {
      throw new MemoryLayersError(
        'ERR_STATE_DICT',
        `${where}: "${p.name}" must be a Tensor, got ${describe(given)}.`,
      )
    }
    given.handle(where, p.name)
    p.value.handle(where, p.name)
    if (!sameShape(p.name, given.shape, p.value.shape)) {
      throw new MemoryLayersError(
        'ERR_STATE_DICT',
        `${where}: "${p.name}" must have shape ${text(p.value.shape)}, got ${text(given.shape)}.`,
      )
    }
    if (!convertible(given.dtype, p.value.dtype)) {
      throw new MemoryLayersError(
        'ERR_STATE_DICT',
        `${where}: "${p.name}" must be ${p.value.dtype}, got ${given.dtype}.`,
      )
    }
    if (p.kind === 'dense' || !p.table.mapped) copies.push([p.value, given])
  }
  for (const [value, given] of copies) copyAcross(value, given)
}

// Half-keys are published as [H*2*n, d].
function sameShape(name: string, given: readonly number[], wanted: readonly number[]): boolean {
  const equal = (a: readonly number[], b: readonly number[]) =>
    a.length === b.length && a.every((d, i) => d === b[i])
  if (equal(given, wanted)) return true
  return (
    name === 'keys' &&
    wanted.length === 4 &&
    equal(given, [wanted[0]! * wanted[1]! * wanted[2]!, wanted[3]!])
  )
}

/**
 * Overwrites `value` with `given`, which may be on another device, of another float dtype, or under
 * another shape.
 */
export function copyAcross(value: Tensor, given: Tensor): void {
  const near = given.device === value.device ? undefined : given.to(value.device)
  const shaped = (near ?? given).reshape(value.shape)
  native.tensorCopy(value.handle('copy', 'value'), shaped.handle('copy', 'source'))
  shaped.dispose()
  near?.dispose()
}
