// The rows of a value table: new ones in memory, all or some columns of them, or those of a file.

import { native } from './binding.js'
import { checkDevice, type Device } from './device.js'
import type { DType } from './dtype.js'
import { fail } from './errors.js'
import { constantTensor } from './new-tensor.js'
import { slice } from './ops.js'
import { checkInteger, checkNumber, checkOptions, checkSeed, choiceIndex } from './options.js'
import { mapTensors } from './safetensors.js'
import { type ColumnShard, checkShard, type ShardOptions } from './sharding/columns.js'
import { formatShape, type Tensor } from './tensor.js'

/** Options of {@link ValueTable}. */
export interface ValueTableOptions {
  /** Rows, N. A memory layer with `nKeys` n reads a table of n*n slots. */
  slots: number
  /** Width of a row, V. */
  dim: number
  /**
   * Default 'float32'. A 16-bit table is trained through exact float32 values, which it keeps from
   * its first optimizer on: 2 bytes more a number for bfloat16, 4 for float16. int8 is read only.
   */
  dtype?: 'float32' | 'bfloat16' | 'float16' | 'int8'
  /**
   * Normal rows with mean 0. Default: std 1/sqrt(dim), the next seed of the device's counter. int8
   * tables start at zero: write `weight` and `scales`.
   */
  init?: { std?: number; seed?: number }
  /**
   * Divides the table among the ranks of a group, which must make it with the same options: this
   * one then holds some columns of every row, with the numbers that they have in the whole table.
   * Layers run on it unchanged; every rank must run them, each with its own tokens. Not for int8.
   */
  shard?: ShardOptions
}

/** Options of {@link ValueTable.map}. */
export interface MapOptions {
  /** The CPU. */
  device: Device
  /** Name of the tensor `[slots]` float32 with the factor of each int8 row. */
  scales?: string
}

const rowTypes: readonly DType[] = ['float32', 'bfloat16', 'float16', 'int8']

/** In native/ops/random_fill.h. */
const normal = 1

/** @internal The rows of a table, in memory of their own or in a file. */
export class TableRows {
  readonly slots: number
  readonly dim: number
  readonly weight: Tensor
  readonly scales: Tensor<'float32'> | undefined
  readonly mapped: boolean
  readonly shard: ColumnShard | undefined

  constructor(rows: TableRows) {
    this.slots = rows.slots
    this.dim = rows.dim
    this.weight = rows.weight
    this.scales = rows.scales
    this.mapped = rows.mapped
    this.shard = rows.shard
  }
}

/** New rows in memory, as the options say. */
export function allocateRows(where: string, device: Device, options: ValueTableOptions): TableRows {
  const checked = checkOptions(where, options, ['slots', 'dim', 'dtype', 'init', 'shard'])
  const slots = checkInteger(where, 'slots', checked.slots, 1, 2 ** 31 - 1)
  const dim = checkInteger(where, 'dim', checked.dim, 1, 2 ** 24)
  const dtype = checked.dtype ?? 'float32'
  choiceIndex(where, 'dtype', dtype, rowTypes)
  const init = checkOptions(`${where}: init`, checked.init, ['std', 'seed'])
  const std = checkNumber(where, 'init.std', init.std ?? 1 / Math.sqrt(dim), 0)
  const seed = checkSeed(where, init.seed, 'init.seed')
  const shape = [slots, dim]
  const shard = checkShard(where, checked.shard, dim)
  const whole = { slots, dim, mapped: false, shard }
  if (dtype !== 'int8') {
    const weight = device.seeds.use(seed, (seed) => {
      if (!shard) return device.normal(shape, { std, seed, dtype })
      const columns = device.empty([slots, shard.columns()], dtype)
      const handle = columns.handle(where, 'weight')
      native.tensorRandom(handle, normal, 0, std, seed, shard.begin, dim)
      return columns
    })
    return new TableRows({ ...whole, weight, scales: undefined })
  }
  if (shard) fail('ERR_UNSUPPORTED', where, 'shard', 'be left out for an int8 table', checked.shard)
  if (checked.init) {
    const requirement = 'be left out for an int8 table'
    const hint = 'Write its weight and scales.'
    fail('ERR_UNSUPPORTED', where, 'init', requirement, checked.init, hint)
  }
  const weight = device.zeros(shape, 'int8')
  const scales = constantTensor(where, device, [slots], 1)
  return new TableRows({ ...whole, weight, scales })
}

/** The columns of this rank, of a whole table. */
export function columnsOf(weight: Tensor, shard: ColumnShard): Tensor {
  return slice(weight, { begin: [0, shard.begin], end: [undefined, shard.end] })
}

/** Rows that stay in a file. */
export function mapRows(where: string, path: string, name: string, options: MapOptions): TableRows {
  const { device, scales } = checkOptions(where, options, ['device', 'scales'])
  checkDevice(where, device)
  if (typeof name !== 'string') fail('ERR_VALUE', where, 'name', 'be a string', name)
  if (scales !== undefined && typeof scales !== 'string')
    fail('ERR_VALUE', where, 'scales', 'be a string', scales)
  const mapped = mapTensors(where, device, path, { name, scales })
  try {
    return checkMapped(where, name, mapped.rows, scales, mapped.scales)
  } catch (error) {
    mapped.rows.dispose()
    mapped.scales?.dispose()
    throw error
  }
}

function isFloat32(tensor: Tensor): tensor is Tensor<'float32'> {
  return tensor.dtype === 'float32'
}

function checkMapped(
  where: string,
  name: string,
  weight: Tensor,
  scalesName: string | undefined,
  scales: Tensor | undefined,
): TableRows {
  const [slots, dim, ...rest] = weight.shape
  if (slots === undefined || dim === undefined || rest.length > 0)
    fail('ERR_SHAPE', where, name, 'have shape [slots, dim]', formatShape(weight.shape))
  if (!rowTypes.includes(weight.dtype))
    fail('ERR_DTYPE', where, name, `be one of ${rowTypes.join(', ')}`, weight.dtype)
  if ((weight.dtype === 'int8') !== (scales !== undefined)) {
    const requirement = weight.dtype === 'int8' ? 'name the scales of the int8 rows' : 'be left out'
    fail('ERR_VALUE', where, 'scales', requirement, scalesName)
  }
  const whole = { slots, dim, weight, mapped: true, shard: undefined }
  if (scales === undefined) return new TableRows({ ...whole, scales })
  const [wanted, found] = [formatShape([slots]), formatShape(scales.shape)]
  if (!isFloat32(scales) || found !== wanted)
    fail('ERR_SHAPE', where, scalesName ?? '', `be float32 ${wanted}`, `${scales.dtype} ${found}`)
  return new TableRows({ ...whole, scales })
}
