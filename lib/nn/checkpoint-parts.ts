// A checkpoint of several ranks: an index, and beside it one file a rank. The index is written
// last, so that a checkpoint is whole or not there; the files of the one before it are removed
// then.

import { randomInt } from 'node:crypto'
import { basename, dirname, extname, join } from 'node:path'
import { unrecorded } from '../autograd/recording.js'
import { isObject } from '../describe.js'
import type { Device } from '../device.js'
import { fail, isArray, MemoryLayersError } from '../errors.js'
import { fileError, system, unlessAbsent } from '../files/system.js'
import * as ops from '../ops.js'
import { readSafetensors, saveSafetensors } from '../safetensors.js'
import { shardOf } from '../sharding/shard-of.js'
import type { StateDict } from '../state-dict.js'
import type { Tensor } from '../tensor.js'
import type { World } from '../world.js'

const partFormat = 'memory-layers checkpoint part 1'

/** What an index says of its files. */
export interface PartFiles {
  /** Names in the folder of the index, by rank. */
  files: string[]
  /** Of tensors whose columns are divided: where those in each file begin, or -1 for none. */
  columns: Record<string, readonly number[]>
}

/** Which file has which columns, by name: the ranks that divide a table with rank 0 write it. */
function columnsOfFiles(world: World, tensors: StateDict): PartFiles['columns'] {
  const columns: Record<string, readonly number[]> = {}
  for (const [name, tensor] of Object.entries(tensors)) {
    const shard = shardOf(tensor)
    if (!shard) continue
    const ranks = shard.group.ranksIn(world)
    if (ranks.includes(-1)) {
      const requirement = 'be of all ranks that divide the tables'
      fail('ERR_VALUE', 'saveCheckpoint', 'world', requirement, `${world.size} ranks`)
    }
    const begins = new Array<number>(world.size).fill(-1)
    if (ranks.includes(0)) for (const [r, rank] of ranks.entries()) begins[rank] = shard.begins[r]!
    columns[name] = begins
  }
  return columns
}

/** The first tensor of which this rank has some columns. */
export function findDivided(tensors: StateDict): string | undefined {
  return Object.entries(tensors).find(([, tensor]) => shardOf(tensor))?.[0]
}

/**
 * Writes the tensors of every rank, what all have alike once, and then the index.
 * @param metadata of the index, from its files
 * @throws on every rank, if one can't write: there ERR_DISTRIBUTED
 */
export async function saveParts(
  world: World,
  path: string,
  tensors: StateDict,
  metadata: (parts: PartFiles) => Record<string, string>,
  keepOlder: boolean,
): Promise<void> {
  const columns = columnsOfFiles(world, tensors)
  const { rank } = world
  const own = Object.entries(tensors).filter(([name]) =>
    columns[name] ? columns[name][rank]! >= 0 : rank === 0,
  )
  const number = randomInt(2 ** 47)
  const file = partName(path, number, world)
  const written = saveSafetensors(join(dirname(path), file), Object.fromEntries(own), {
    metadata: { format: partFormat },
  })
  try {
    const all = await agree(world, path, written, number)
    const files = all.map((number, rank) => partName(path, number, { rank, size: world.size }))
    const older = world.rank === 0 && !keepOlder ? await filesOf(path) : []
    const index = async () => {
      if (world.rank === 0)
        await saveSafetensors(path, {}, { metadata: metadata({ files, columns }) })
    }
    await agree(world, path, index(), 0)
    for (const name of older) await remove(join(dirname(path), name))
  } catch (error) {
    await written.catch(() => {})
    await remove(join(dirname(path), file)).catch(() => {})
    throw error
  }
}

/** Waits for every rank; throws where one has failed. @returns the numbers that they give */
async function agree(
  world: World,
  path: string,
  work: Promise<void>,
  number: number,
): Promise<number[]> {
  const [outcome] = await Promise.allSettled([work])
  const all = await world.exchange([outcome?.status === 'fulfilled' ? 1 : 0, number])
  if (outcome?.status === 'rejected') throw outcome.reason
  const failed = all.findIndex(([done]) => done === 0)
  if (failed < 0) return all.map(([, number]) => number!)
  const message = `saveCheckpoint: rank ${failed} could not write its part of "${path}".`
  throw new MemoryLayersError('ERR_DISTRIBUTED', `${message}\n  Its own error says why.`, failed)
}

function partName(path: string, number: number, { rank, size }: { rank: number; size: number }) {
  const extension = extname(path)
  const stem = basename(path, extension)
  return `${stem}-${number.toString(16)}-${rank + 1}-of-${size}${extension}`
}

/** The files of the index at `path`; none where there is none, or another file. */
export async function filesOf(path: string): Promise<string[]> {
  if (!(await system.stat(path).catch(() => undefined))) return []
  const found = await readSafetensors(path, { names: [] }).catch(() => undefined)
  return partFilesOf(found?.metadata)?.files ?? []
}

async function remove(path: string): Promise<void> {
  try {
    await unlessAbsent(() => system.unlink(path))
  } catch (error) {
    throw fileError({ where: 'saveCheckpoint', path }, 'removed', error)
  }
}

/** What the metadata of an index says; undefined for a checkpoint in one file. */
export function partFilesOf(metadata: Record<string, string> | undefined): PartFiles | undefined {
  const text = metadata?.['parts']
  if (text === undefined) return undefined
  try {
    const { files, columns } = JSON.parse(text) as Partial<PartFiles>
    const named = isArray(files) && files.every((f) => typeof f === 'string' && f === basename(f))
    const begins = isObject(columns) ? Object.values(columns) : []
    const whole = begins.every(
      (list) =>
        isArray(list) &&
        list.length === files?.length &&
        list.every((n) => Number.isSafeInteger(n)),
    )
    if (named && isObject(columns) && whole) return { files, columns }
  } catch {
    // as an index that says nothing
  }
  return { files: [], columns: {} }
}

/**
 * The tensors of a checkpoint in several files, with those columns that `live` has of each, or all.
 * One file at a time is in memory beside them.
 */
export async function loadParts(
  path: string,
  { files, columns }: PartFiles,
  live: StateDict,
  device: Device | undefined,
): Promise<StateDict> {
  const loaded: StateDict = {}
  const pieces = new Map<string, Piece[]>()
  try {
    for (const [rank, file] of files.entries()) {
      const at = join(dirname(path), file)
      const { tensors } = await readSafetensors(at, device && { device })
      for (const [name, tensor] of Object.entries(tensors)) {
        const begins = columns[name]
        if (!begins) {
          loaded[name] = tensor
          continue
        }
        const piece = columnsOf(tensor, begins[rank]!, live[name])
        tensor.dispose()
        const begin = begins[rank]!
        if (piece) pieces.set(name, [...(pieces.get(name) ?? []), { begin, tensor: piece }])
      }
    }
    for (const [name, list] of pieces) loaded[name] = joined(list)
    return loaded
  } catch (error) {
    for (const tensor of Object.values(loaded)) tensor.dispose()
    for (const { tensor } of [...pieces.values()].flat()) tensor.dispose()
    throw error
  }
}

/** Columns of one file. */
interface Piece {
  begin: number
  tensor: Tensor
}

function joined(pieces: Piece[]): Tensor {
  const list = pieces.sort((a, b) => a.begin - b.begin).map(({ tensor }) => tensor)
  const [first, ...more] = list
  if (more.length === 0) return first!
  const whole = unrecorded(() => ops.concat(list, 1))
  for (const tensor of list) tensor.dispose()
  return whole
}

/** Those columns of a piece, which begins at column `begin`, that a live tensor has. */
function columnsOf(piece: Tensor, begin: number, live: Tensor | undefined): Tensor | undefined {
  const shard = live && shardOf(live)
  const width = piece.shape[1] ?? 0
  const from = Math.max(0, (shard?.begin ?? 0) - begin)
  const to = Math.min(width, (shard?.end ?? Infinity) - begin)
  if (from >= to) return undefined
  return unrecorded(() => ops.slice(piece, { begin: [0, from], end: [undefined, to] }))
}

/** Tensors of a checkpoint in one file become the columns that `live` has of them. */
export function cutColumns(tensors: StateDict, live: StateDict): void {
  for (const [name, tensor] of Object.entries(tensors)) {
    const own = live[name]
    const shard = own && shardOf(own)
    if (!shard || tensor.shape.length !== 2 || tensor.shape[1] !== shard.width) continue
    tensors[name] = columnsOf(tensor, 0, own) as Tensor
    tensor.dispose()
  }
}
