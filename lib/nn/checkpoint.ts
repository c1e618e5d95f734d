// A training run in one safetensors file: tensors under `<part>.<name>`, and in the metadata, as
// JSON, what is no tensor.

import { atomically } from '../atomically.js'
import { isObject, shorten } from '../describe.js'
import { fail, MemoryLayersError } from '../errors.js'
import { checkPath } from '../files/system.js'
import { collectTensors } from '../made-tensors.js'
import { checkInteger, checkOptions } from '../options.js'
import { readSafetensors, saveSafetensors } from '../safetensors.js'
import type { StateDict } from '../state-dict.js'
import type { Tensor } from '../tensor.js'
import { World } from '../world.js'
import {
  cutColumns,
  findDivided,
  loadParts,
  type PartFiles,
  partFilesOf,
  saveParts,
} from './checkpoint-parts.js'
import { checkJson } from './json-state.js'
import { isPosition, isResumable, type Resumable, resumables, setPositions } from './resumable.js'
import { firstTensor, isStateful, liveTensors, type Stateful } from './stateful.js'

export type { Stateful } from './stateful.js'

/** Parts of a checkpoint by name. `state` is anything that JSON has. */
export interface CheckpointParts {
  /** The model, if it is saved. */
  model?: Stateful
  /** Its optimizer: moments, count of steps, exact values of 16-bit tables. */
  optimizer?: Stateful
  /** Of the program: kept as JSON. Read when the checkpoint is loaded, not a part to load into. */
  state?: unknown
  /** More parts: what has a state dict, a position or both. */
  [part: string]: unknown
}

/** Options of {@link saveCheckpoint}. */
export interface SaveCheckpointOptions {
  /** Of `initDistributed`: all its ranks save together. */
  world?: World
}

const format = 'memory-layers checkpoint 1'

/** The metadata. */
interface Contents {
  state: unknown
  /** By part and name in it: `data`, `model.blocks.0.dropout`. */
  positions: Record<string, number>
  /** Of those that have one, likewise. */
  seeds: Record<string, number>
  /** Names of tensors that are the same one under another name. */
  same: Record<string, string>
}

/**
 * Writes parts to one file: temporary, flushed and renamed, as {@link saveSafetensors} does; until
 * then the file that was there before stays. A tensor that several parts share is written once.
 * The file holds the tensors as they are at the call, so training may go on meanwhile. With data
 * position and counters inside, a run that is resumed from it has the bits of one that never
 * stopped.
 *
 * ```ts
 * import { tmpdir } from 'node:os'
 * import { join } from 'node:path'
 * import { AdamW, openDevice } from 'memory-layers'
 * import { Linear, loadCheckpoint, saveCheckpoint } from 'memory-layers/nn'
 *
 * const model = new Linear(openDevice(), { inputDim: 4, outputDim: 2 })
 * const optimizer = new AdamW(model.parameters(), { lr: 1e-3 })
 * const path = join(tmpdir(), 'run.safetensors')
 * await saveCheckpoint(path, { model, optimizer, state: { step: 1 } })
 * const { state } = await loadCheckpoint(path, { model, optimizer })
 * ```
 *
 * Ranks of a `world` all call it, and write one checkpoint: an index at the path, and beside it a
 * file a rank, which holds its columns of divided tables. It may be loaded by any number of ranks,
 * or by one process.
 * @throws ERR_VALUE for a part that has neither state dict nor position and a state that JSON does
 * not have; ERR_UNSUPPORTED for divided tables without their world; ERR_DISTRIBUTED where another
 * rank can't write; and as saveSafetensors
 */
export async function saveCheckpoint(
  path: string,
  parts: CheckpointParts,
  options?: SaveCheckpointOptions,
): Promise<void> {
  const { world } = checkOptions('saveCheckpoint', options, ['world'])
  if (world !== undefined && !World.is(world))
    fail('ERR_VALUE', 'saveCheckpoint', 'world', 'be a world of initDistributed', world)
  return saveCheckpointOf(path, parts, { world, keepOlder: false })
}

/** {@link saveCheckpoint}; `keepOlder`: the files of the one that was there stay. */
export async function saveCheckpointOf(
  path: string,
  parts: CheckpointParts,
  { world, keepOlder }: { world: World | undefined; keepOlder: boolean },
): Promise<void> {
  const where = 'saveCheckpoint'
  const { state, ...named } = checkParts(where, parts)
  const made: Tensor[] = []
  const tensors: StateDict = {}
  const positions = new Map<string, number>()
  const seeds = new Map<string, number>()
  const same = new Map<string, string>()
  checkNames(where, Object.keys(named))
  const kept = checkJson(where, state)
  const restore = collectTensors(made)
  try {
    const names = new Map<Tensor, string>()
    for (const [part, object] of Object.entries(named)) {
      for (const [at, { position, seed }] of resumables(part, object)) {
        positions.set(at, checkInteger(where, `${at}.position`, position, 0))
        if (isPosition(seed)) seeds.set(at, seed)
      }
      if (!isStateful(object)) continue
      for (const [key, tensor] of Object.entries(object.stateDict())) {
        const name = `${part}.${key}`
        const first = names.get(tensor)
        if (first === undefined) {
          names.set(tensor, name)
          tensors[name] = tensor
        } else {
          same.set(name, first)
        }
      }
    }
  } finally {
    restore()
  }
  const contents: Contents = {
    state: kept,
    positions: Object.fromEntries(positions),
    seeds: Object.fromEntries(seeds),
    same: Object.fromEntries(same),
  }
  const metadata = { format, contents: JSON.stringify(contents) }
  try {
    const divided = findDivided(tensors)
    if (world) {
      const index = (parts: PartFiles) => ({ ...metadata, parts: JSON.stringify(parts) })
      await saveParts(world, checkPath(where, path), tensors, index, keepOlder)
    } else if (divided !== undefined) {
      const hint = 'Give the world to saveCheckpoint on every rank: { world }.'
      const requirement = 'be whole, as there is no "world"'
      fail('ERR_UNSUPPORTED', where, shorten(divided), requirement, 'columns of one rank', hint)
    } else {
      await saveSafetensors(path, tensors, { metadata })
    }
  } finally {
    for (const tensor of made) tensor.dispose()
  }
}

/**
 * Reads a file of {@link saveCheckpoint} into parts of the same names, all or nothing. Parts of the
 * file that are not asked for are left out.
 * @returns the state that was saved
 * @throws ERR_FILE_FORMAT for another file; ERR_STATE_DICT for a part that is not in it or does not
 * fit; ERR_VALUE; and as `loadSafetensors`
 */
export async function loadCheckpoint(
  path: string,
  parts: CheckpointParts,
): Promise<{ state: unknown }> {
  return { state: await loadCheckpointIf(path, parts, (state) => state) }
}

/**
 * {@link loadCheckpoint} of a file whose state passes a check, which throws where it does not:
 * nothing is loaded then.
 * @returns what the check made of the state
 */
export async function loadCheckpointIf<T>(
  path: string,
  parts: CheckpointParts,
  checkState: (state: unknown) => T,
): Promise<T> {
  const where = 'loadCheckpoint'
  const { state: _, ...named } = checkParts(where, parts)
  const live = Object.values(named).flatMap((object) =>
    isStateful(object) ? firstTensor(object) : [],
  )
  const device = live[0]?.device
  const { tensors, metadata } = await readSafetensors(path, device && { device })
  try {
    const files = partFilesOf(metadata)
    if (files) {
      if (files.files.length === 0) readContents(where, path, {})
      Object.assign(tensors, await loadParts(path, files, liveTensors(named), device))
    } else cutColumns(tensors, liveTensors(named))
    const contents = readContents(where, path, metadata)
    const state = checkState(contents.state)
    const states = Object.entries(named).map(([part, object]) => ({
      object,
      state: isStateful(object) ? selectPart(where, part, object, tensors, contents) : {},
      positions: positionsOf(where, part, object, contents),
    }))
    const load = () => {
      for (const { object, state } of states) if (isStateful(object)) object.loadStateDict(state)
      setPositions(states.flatMap(({ positions }) => positions))
    }
    if (device) atomically(device, load)
    else load()
    return state
  } finally {
    for (const tensor of Object.values(tensors)) tensor.dispose()
  }
}

function checkParts(where: string, parts: unknown): CheckpointParts {
  if (!isObject(parts)) fail('ERR_VALUE', where, 'parts', 'be an object of parts by name', parts)
  const named = Object.entries(parts).filter(([, object]) => object !== undefined)
  for (const [name, object] of named) {
    if (name === 'state' || isStateful(object) || isResumable(object)) continue
    const hint = 'What is neither belongs into "state".'
    fail('ERR_VALUE', where, name, 'have a state dict or a position', object, hint)
  }
  return Object.fromEntries(named)
}

/** Tensors lie under `<part>.<name>`: no part may begin as another's tensors do. */
function checkNames(where: string, names: readonly string[]): void {
  for (const name of names) {
    const outer = names.find((other) => name.startsWith(`${other}.`))
    const wanted = `not begin as the tensors of "${shorten(outer ?? '')}" do`
    if (outer !== undefined) fail('ERR_VALUE', where, shorten(name), wanted, 'such a name')
  }
}

function readContents(where: string, path: string, metadata: Record<string, string>): Contents {
  if (metadata['format'] === format)
    try {
      const contents: Partial<Contents> | null = JSON.parse(metadata['contents'] ?? '')
      const { positions, seeds = {}, same } = contents ?? {}
      const hasNumbers = (numbers: unknown) =>
        isObject(numbers) && Object.values(numbers).every(isPosition)
      if (hasNumbers(positions) && hasNumbers(seeds) && isObject(same))
        return { ...contents, seeds } as Contents
    } catch {
      // as another file
    }
  const hint = 'Tensors alone are read with loadSafetensors.'
  fail('ERR_FILE_FORMAT', where, 'path', 'name a checkpoint of this package', path, hint)
}

function selectPart(
  where: string,
  part: string,
  object: Stateful,
  all: StateDict,
  contents: Contents,
): StateDict {
  const prefix = `${part}.`
  const own = Object.entries(all).filter(([name]) => name.startsWith(prefix))
  const same = Object.entries(contents.same)
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, first]) => [name, Object.hasOwn(all, first) ? all[first] : undefined] as const)
  const entries = [...own, ...same]
  if (entries.length === 0 && firstTensor(object).length > 0) missing(where, part, Object.keys(all))
  return Object.fromEntries(entries.map(([name, t]) => [name.slice(prefix.length), t as Tensor]))
}

/** What is deeper in a part may be missing in the file: it is no part of its own. */
function positionsOf(
  where: string,
  part: string,
  object: unknown,
  { positions, seeds }: Contents,
): [Resumable, Resumable][] {
  return resumables(part, object).flatMap(([at, found]): [Resumable, Resumable][] => {
    const position = Object.hasOwn(positions, at) ? positions[at] : undefined
    const seed = isPosition(found.seed) && Object.hasOwn(seeds, at) ? seeds[at] : undefined
    if (position !== undefined) return [[found, { position, ...(seed !== undefined && { seed }) }]]
    if (at === part) missing(where, part, Object.keys(positions))
    return []
  })
}

function missing(where: string, part: string, names: string[]): never {
  const parts = [...new Set(names.map((name) => name.split('.')[0]))]
  const message = `${where}: "${part}" is not in the checkpoint.\n  It has: ${parts.join(', ')}.`
  throw new MemoryLayersError('ERR_STATE_DICT', message)
}
