// Tensors by their published names: a module's state, and how it is loaded.

import { atomically } from './atomically.js'
import { isObject, shorten } from './describe.js'
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
    for (const [i, { value, readOnly, load }] of entries.entries()) {
      const source = sources[i]
      if (!source || readOnly) continue
      if (load) load(source)
      else overwrite(value, source)
    }
  })
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
  return name === 'keys' && wanted.length === 4 && formatShape(found) === formatShape(published)
}

function mismatch(message: string): MemoryLayersError {
  return new MemoryLayersError('ERR_STATE_DICT', message)
}
