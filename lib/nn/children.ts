// What a module is made of: how its children are found, and their parameters.

import { isInstance, isObject } from '../describe.js'
import { isArray } from '../errors.js'
import { denseParameter, type Parameter, tableParameter } from '../parameter.js'
import type { StateDict } from '../state-dict.js'
import { Tensor } from '../tensor.js'
import { ValueTable } from '../value-table.js'

/** A layer: what has parameters and no children that are modules. */
export interface Layer {
  /** For an optimizer. */
  parameters(): readonly Parameter[]
  /** The live tensors by name. */
  stateDict(): StateDict
  /** Copies tensors in, all or nothing. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void
  /** Frees the parameters. */
  dispose(): void
}

/** What a `Module` is made of. */
export type Child = Layer | ValueTable | Parameter

export function isLayer(value: object): value is Layer {
  const layer = value as Partial<Layer>
  return (
    typeof layer.parameters === 'function' &&
    typeof layer.stateDict === 'function' &&
    typeof layer.loadStateDict === 'function' &&
    typeof layer.dispose === 'function'
  )
}

export function isParameter(value: object): value is Parameter {
  const { kind, value: tensor } = value as Partial<Parameter>
  return (kind === 'dense' || kind === 'table') && Tensor.is(tensor)
}

function isRecord(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The parameters of a child under `path`. */
export function parametersOf(path: string, child: Child): Parameter[] {
  if (isInstance(child, ValueTable)) return [tableParameter(`${path}.weight`, child)]
  if (isParameter(child)) return [renamed(child, path)]
  return child.parameters().map((p) => renamed(p, `${path}.${p.name}`))
}

function renamed(p: Parameter, name: string): Parameter {
  return p.kind === 'table' ? tableParameter(name, p.table) : denseParameter(name, p.value, p.grad)
}

/** The first of each tensor. */
export function once(parameters: readonly Parameter[]): Parameter[] {
  const seen = new Set<Tensor>()
  return parameters.filter(({ value }) => !seen.has(value) && seen.add(value))
}

const maxDepth = 32

/**
 * The children that a property leads to: itself, or those in an array or record, down to
 * `maxDepth`, `within` which it is: one that leads back to itself is left out there.
 */
export function childrenIn(
  name: string,
  value: unknown,
  within: readonly unknown[] = [],
): [string, Child][] {
  if (!(isObject(value) || isArray(value)) || Tensor.is(value)) return []
  if (isInstance(value, ValueTable) || isParameter(value) || isLayer(value)) return [[name, value]]
  if (!isArray(value) && !isRecord(value)) return []
  if (within.includes(value) || within.length === maxDepth) return []
  const path = [...within, value]
  return Object.entries(value).flatMap(([key, v]) => childrenIn(`${name}.${key}`, v, path))
}
