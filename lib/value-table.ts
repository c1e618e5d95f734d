import { disposeOnError } from './atomically.js'
import { unrecorded } from './autograd/recording.js'
import { keep } from './autograd/tidy.js'
import { native, type TableHandle } from './binding.js'
import { isInstance } from './describe.js'
import { checkDevice, type Device } from './device.js'
import { convertible, type DType } from './dtype.js'
import { fail } from './errors.js'
import { inspect } from './inspect.js'
import { noteOwner } from './made-tensors.js'
import { constantTensor } from './new-tensor.js'
import { SparseGrad, slice } from './ops.js'
import { checkInteger, checkNumber, checkOptions, checkSeed, choiceIndex } from './options.js'
import { overwrite } from './overwrite.js'
import { mapTensors } from './safetensors.js'
import { type ColumnShard, checkShard, type ShardOptions } from './sharding/columns.js'
import { noteShard } from './sharding/shard-of.js'
import { formatShape, optionalTensorHandle, Tensor, tensorHandle } from './tensor.js'

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
function allocateRows(where: string, device: Device, options: ValueTableOptions): TableRows {
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
  if (shard)
    fail('ERR_UNSUPPORTED', where, 'shard', 'be left out for an int8 table', checked.shard)
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
function columnsOf(weight: Tensor, shard: ColumnShard): Tensor {
  return slice(weight, { begin: [0, shard.begin], end: [undefined, shard.end] })
}

/** Rows that stay in a file. */
function mapRows(where: string, path: string, name: string, options: MapOptions): TableRows {
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

/**
 * A table of value rows `[slots, dim]`, shared by any number of layers. Its gradient is never
 * dense: each layer's backward queues what it read, and the optimizer merges the queue and updates
 * each touched row once.
 *
 * ```ts
 * import { MemoryLayer, openDevice, ValueTable } from 'memory-layers'
 *
 * const device = openDevice()
 * const values = new ValueTable(device, { slots: 32 * 32, dim: 64, dtype: 'bfloat16' })
 * const options = { inputDim: 64, knn: 8, nKeys: 32, keyDim: 64, values }
 * const layers = [new MemoryLayer(device, options), new MemoryLayer(device, options)] // share it
 * ```
 */
export class ValueTable {
  /** Where the rows are. */
  readonly device: Device
  /** Rows, N. */
  readonly slots: number
  /** Width of a row, V. */
  readonly dim: number
  /** Of the rows. */
  readonly dtype: DType
  /** `[slots, dim]`, the live rows; of a table with `shard` the columns of this rank. */
  readonly weight: Tensor
  /** `[slots]` float32: the factor of each row of an int8 table. */
  readonly scales: Tensor<'float32'> | undefined
  /** @internal Whether the rows are in a file, which is never written to. */
  readonly mapped: boolean
  /** @internal How it is divided among ranks. */
  readonly shard: ColumnShard | undefined
  /** @internal The rows are an embedding's: they follow `lr`, and clip with the dense rest. */
  embedding = false
  /** @internal */
  readonly handle: TableHandle
  #dense: Tensor | undefined

  /** @throws ERR_OPTION, ERR_VALUE, ERR_OUT_OF_MEMORY */
  constructor(device: Device, options: ValueTableOptions)
  /** @internal */
  constructor(device: Device, rows: TableRows)
  constructor(device: Device, options: ValueTableOptions | TableRows) {
    const where = 'ValueTable'
    checkDevice(where, device)
    const { rows, handle } = disposeOnError(() => {
      const rows = isInstance(options, TableRows) ? options : allocateRows(where, device, options)
      const weight = tensorHandle(where, 'weight', rows.weight)
      const scales = optionalTensorHandle(where, 'scales', rows.scales, device)
      return { rows, handle: native.tableCreate(weight, scales) }
    })
    keep(rows.weight)
    noteShard(rows.weight, rows.shard)
    if (rows.scales) keep(rows.scales)
    this.device = device
    this.slots = rows.slots
    this.dim = rows.dim
    this.dtype = rows.weight.dtype
    this.weight = rows.weight
    this.scales = rows.scales
    this.mapped = rows.mapped
    this.shard = rows.shard
    this.handle = handle
    noteOwner(this)
    if (!this.mapped && this.dtype !== 'int8')
      this.weight.setLeaf({
        grad: undefined,
        table: handle,
        into: () => this.#denseGradient(),
        added: () => native.tableDenseAdded(handle),
      })
  }

  /**
   * @internal The dense part of the gradient, for a layer that reads the rows as a matrix to add
   * to: it counts as one read of every row. Undefined for a read-only table.
   */
  denseGradient(): Tensor | undefined {
    if (!this.weight.requiresGrad) return undefined
    native.tableDenseAdded(this.handle)
    return this.#denseGradient()
  }

  #denseGradient(): Tensor {
    // A backward that fails disposes what was made in it.
    if (!this.#dense || this.#dense.disposed)
      this.#dense = keep(new Tensor(this.device, native.tableDense(this.handle)))
    return this.#dense
  }

  /**
   * A table whose rows stay in a safetensors file, mapped into memory: they are read when they are
   * needed, so the table may be larger than the machine's memory. Read only: layers may run on it
   * (`infer`, `forward`, `backward`), optimizers refuse it. The file must not change meanwhile.
   * @param path of the file
   * @param name of the tensor `[slots, dim]` in it: float32, float16, bfloat16, or int8 with
   * `scales`
   * @throws ERR_FILE_FORMAT, ERR_SHAPE, ERR_DTYPE, ERR_VALUE for a name that is not in the file;
   * ERR_UNSUPPORTED on a device other than the CPU
   */
  static map(path: string, name: string, options: MapOptions): ValueTable {
    return disposeOnError(() => {
      const rows = mapRows('ValueTable.map', path, name, options)
      return new ValueTable(rows.weight.device, rows)
    })
  }

  /** Number of reads queued for the optimizer; 0 for a read-only table (int8 or mapped). */
  get pendingReads(): number {
    return native.tablePending(this.handle)
  }

  /** @internal Queues a read of bags, as a layer's backward does. `dy` is not written to later. */
  queue(indices: Tensor, weights: Tensor, dy: Tensor): void {
    const where = 'ValueTable.queue'
    const [i, w, d] = [indices, weights, dy].map((t) => t.handle(where, 'read'))
    native.tablePush(this.handle, i!, w!, d!, undefined)
  }

  /** The merged gradient of all queued reads, for inspection: the queue stays. */
  gradient(): SparseGrad {
    tensorHandle('ValueTable.gradient', 'weight', this.weight)
    return new SparseGrad(this.device, native.tableGradient(this.handle))
  }

  /** Empties the queue of reads. */
  zeroGrad(): void {
    native.tableClear(this.handle)
  }

  /**
   * Overwrites the rows with a `[slots, dim]` tensor, which may be on another device or of another
   * float dtype. A table with `shard` takes its columns of it.
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  load(weight: Tensor): void {
    const where = 'ValueTable.load'
    tensorHandle(where, 'weight', weight)
    tensorHandle(where, 'this', this.weight)
    const [wanted, found] = [formatShape([this.slots, this.dim]), formatShape(weight.shape)]
    if (found !== wanted) fail('ERR_SHAPE', where, 'weight', `have shape ${wanted}`, found)
    if (!convertible(weight.dtype, this.dtype))
      fail('ERR_DTYPE', where, 'weight', `be ${this.dtype}`, weight.dtype)
    if (!this.shard) return overwrite(this.weight, weight)
    const columns = unrecorded(() => columnsOf(weight, this.shard!))
    try {
      overwrite(this.weight, columns)
    } finally {
      columns.dispose()
    }
  }

  /** Frees the rows. Layers that read the table throw ERR_DISPOSED afterwards. */
  dispose(): void {
    native.tableDispose(this.handle)
    this.#dense?.dispose()
    this.weight.dispose()
    this.scales?.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    const { shard } = this
    const columns = shard ? `, columns ${shard.begin} to ${shard.end}` : ''
    const state = `${columns}${this.mapped ? ', mapped' : ''}${this.weight.disposed ? ', disposed' : ''}`
    return `ValueTable ${this.dtype} [${this.slots}, ${this.dim}] on ${this.device.name}${state}`
  }
}
