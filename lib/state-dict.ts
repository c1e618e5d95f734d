// Tensors by their published names: a module's state, and how it is loaded.

import { atomically } from './atomically.js'
import { native } from './binding.js'
import { isObject, shorten } from './describe.js'
import type { Device } from './device.js'
import { convertible } from './dtype.js'
import { describeValue, MemoryLayersError } from './errors.js'
import { overwrite } from './overwrite.js'
import { formatShape, Tensor } from './tensor.js'

/** Tensors by their published names. */
export type StateDict = Record<string, Tensor>

/** What a state dict is loaded into. */
export interface StateEntry {
  readonly name: string
  /** The live values. */
  readonly value: Tensor
  /** Read only (a mapped table): compared with the state dict, not overwritten. */
  readonly readOnly?: boolean
  /** May be left out of the state dict. */
  readonly optional?: boolean
  /** How it is loaded, if not by overwriting `value`. */
  readonly load?: (source: Tensor) => void
}

/** The live tensors by name, not copies. */
export function stateDictOf(entries: readonly StateEntry[]): StateDict {
  return Object.fromEntries(entries.map((entry) => [entry.name, entry.value]))
}

/**
 * Copies a state dict into live tensors, all or nothing: after an error nothing was loaded.
 * @throws ERR_STATE_DICT, ERR_DISPOSED
 */
export function loadStateDict(
  where: string,
  entries: readonly StateEntry[],
  state: StateDict,
): void {
  if (!isObject(state)) {
    const found = describeValue(state)
    throw mismatch(`${where}: the state dict must be an object of tensors by name, got ${found}.`)
  }
  const names = entries.map((entry) => entry.name)
  const unknown = Object.keys(state).find((name) => !names.includes(name))
  if (unknown !== undefined)
    throw mismatch(
      `${where}: unknown name "${shorten(unknown)}".\n  This layer has: ${names.join(', ')}.`,
    )
  const sources = names.map((name) => state[name])
  for (const [i, entry] of entries.entries()) checkEntry(where, entry, sources[i])
  const device = entries[0]?.value.device
  if (!device) return
  atomically(device, () => {
    const loaded = entries.flatMap(({ value, readOnly, load }, i) => {
      const source = sources[i]
      return !source || readOnly ? [] : [{ value, load, source }]
    })
    const copies = copyOverwritten(device, loaded)
    for (const [i, { value, load, source }] of loaded.entries()) {
      const from = copies.get(i) ?? source
      if (load) load(from)
      else overwrite(value, from)
    }
    for (const copy of copies.values()) copy.dispose()
  })
}

/** Copies of the sources, by position, that the loading of others would change. */
function copyOverwritten(
  device: Device,
  loaded: readonly { value: Tensor; source: Tensor }[],
): Map<number, Tensor> {
  const here = [...loaded.entries()].filter(([, { source }]) => source.device === device)
  const handles = (pick: 'value' | 'source') =>
    here.map(([, entry]) => entry[pick].handle('loadStateDict', pick))
  const overwritten = native.tensorsOverwritten(handles('value'), handles('source'))
  return new Map(
    overwritten.map((i) => {
      const [position, { source }] = here[i]!
      return [position, source.to(source.dtype)]
    }),
  )
}

function checkEntry(where: string, entry: StateEntry, source: unknown): void {
  const { name, value } = entry
  if (source === undefined && entry.optional) return
  const subject = `${where}: "${name}"`
  if (source === undefined) throw mismatch(`${subject} ${formatShape(value.shape)} is missing.`)
  if (!Tensor.is(source))
    throw mismatch(`${subject} must be a Tensor, got ${describeValue(source)}.`)
  source.handle(where, name)
  value.handle(where, name)
  if (!sameShape(name, source.shape, value.shape)) {
    const [wanted, found] = [formatShape(value.shape), formatShape(source.shape)]
    throw mismatch(`${subject} must have shape ${wanted}, got ${found}.`)
  }
  if (!convertible(source.dtype, value.dtype))
    throw mismatch(`${subject} must be ${value.dtype}, got ${source.dtype}.`)
}

// Half-keys [H, 2, n, d] are published as [H*2*n, d].
function sameShape(name: string, found: readonly number[], wanted: readonly number[]): boolean {
  if (formatShape(found) === formatShape(wanted)) return true
  const published = [wanted.slice(0, -1).reduce((a, b) => a * b, 1), ...wanted.slice(-1)]
  return (
    /(^|\.)keys$/.test(name) && wanted.length === 4 && formatShape(found) === formatShape(published)
  )
}

function mismatch(message: string): MemoryLayersError {
  return new MemoryLayersError('ERR_STATE_DICT', message)
}
