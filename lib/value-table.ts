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
import { SparseGrad } from './ops.js'
import { overwrite } from './overwrite.js'
import { RowPatch } from './row-patch.js'
import type { ColumnShard } from './sharding/columns.js'
import { noteShard } from './sharding/shard-of.js'
import { diffOf, replaceRows } from './table-patch.js'
import {
  allocateRows,
  columnsOf,
  type MapOptions,
  mapRows,
  TableRows,
  type ValueTableOptions,
} from './table-rows.js'
import { formatShape, optionalTensorHandle, Tensor, tensorHandle } from './tensor.js'

export type { MapOptions, ValueTableOptions } from './table-rows.js'

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
  #tracked = false
  #counting = false

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
    const { shard } = this
    const own = shard ? unrecorded(() => columnsOf(weight, shard)) : weight
    try {
      overwrite(this.weight, own)
    } finally {
      if (shard) own.dispose()
    }
  }

  /** Whether the table is tracked: {@link ValueTable.track}. */
  get tracked(): boolean {
    return this.#tracked
  }

  /**
   * From here on the rows that change are journaled as they were before, with the exact values of a
   * 16-bit table, which it gets if it has none: for {@link ValueTable.diff}. A tracked table starts
   * anew. It takes one byte a slot, and the bytes of each row that is written; while steps are in
   * flight, of those that they may write. What overwrites the table journals all of its rows.
   * @throws ERR_UNSUPPORTED for an int8 table and one mapped from a file; ERR_DISPOSED,
   * ERR_OUT_OF_MEMORY
   */
  track(): void {
    tensorHandle('ValueTable.track', 'this', this.weight)
    native.tableTrack(this.handle)
    this.#tracked = true
  }

  /** Ends {@link ValueTable.track} and frees its journal. */
  untrack(): void {
    native.tableUntrack(this.handle)
    this.#tracked = false
  }

  /**
   * What has changed since {@link ValueTable.track}, which goes on: rows that have their old bits
   * again are left out. Takes time for the rows that were written alone. Of a table with `shard`
   * all ranks call it together, and each gets the patch of the whole table, as an undivided one
   * gives it; the rows must not be written to before that.
   * @throws ERR_VALUE for a table that is not tracked, ERR_DISPOSED, ERR_OUT_OF_MEMORY,
   * ERR_DISTRIBUTED, and the fault of a void table
   */
  async diff(): Promise<RowPatch> {
    const where = 'ValueTable.diff'
    tensorHandle(where, 'this', this.weight)
    return diffOf(where, this)
  }

  /**
   * Writes what a patch changed into the table: rows that have the patch's old bits get its new
   * ones, and rows that have the new ones stay. Nothing is written if any row has others. Rows are
   * compared with all their bits, of a 16-bit table that is trained with its exact values. All
   * ranks that divide a table call it together, with the same patch of the whole table; each writes
   * its columns, or none does.
   * @throws ERR_CONFLICT with the rows that have other bits in `rows`; ERR_SHAPE or ERR_DTYPE for a
   * patch of another kind of table, ERR_UNSUPPORTED for one that is mapped from a file, ERR_VALUE,
   * ERR_DISPOSED, ERR_DISTRIBUTED, and the fault of a void table
   */
  apply(patch: RowPatch): Promise<void> {
    return this.#replace('ValueTable.apply', patch, false)
  }

  /**
   * Undoes a patch: {@link ValueTable.apply} from its new bits to its old ones. Of patches that
   * were made one after another, the last comes first.
   * @throws as apply
   */
  revert(patch: RowPatch): Promise<void> {
    return this.#replace('ValueTable.revert', patch, true)
  }

  async #replace(where: string, patch: RowPatch, back: boolean): Promise<void> {
    if (!isInstance(patch, RowPatch)) fail('ERR_VALUE', where, 'patch', 'be a RowPatch', patch)
    tensorHandle(where, 'this', this.weight)
    if (this.mapped)
      fail('ERR_UNSUPPORTED', where, 'this', 'be writable', 'rows that are mapped from a file')
    await replaceRows(where, this, patch, back)
  }

  /** @internal After a step: tells the journal how many rows it has, so that it grows no more. */
  countJournal(): void {
    if (!this.#tracked || this.#counting) return
    const journal = native.tableJournalCount(this.handle)
    if (!journal) return
    const { count, added } = journal
    this.#counting = true
    const known = async () => {
      try {
        const [rows = 0] = new Int32Array(await native.tensorRead(count))
        if (!this.weight.disposed) native.tableJournalKnown(this.handle, count, rows, added)
      } catch {
        // The device was closed: there is nothing to grow.
      } finally {
        native.tensorDispose(count)
        this.#counting = false
      }
    }
    void known()
  }

  /** Frees the rows. Layers that read the table throw ERR_DISPOSED afterwards. */
  dispose(): void {
    native.tableDispose(this.handle)
    this.#tracked = false
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
    const disposed = this.weight.disposed ? ', disposed' : ''
    const state = `${columns}${this.mapped ? ', mapped' : ''}${disposed}`
    return `ValueTable ${this.dtype} [${this.slots}, ${this.dim}] on ${this.device.name}${state}`
  }
}
