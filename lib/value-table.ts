import { native, type TableHandle } from './binding.js'
import { type Device, expectDevice } from './device.js'
import { convertible, type DType, dtypeCode, dtypeRow } from './dtype.js'
import { fail } from './errors.js'
import { SparseGrad } from './ops.js'
import { choice, integer, number, options } from './options.js'
import { copyAcross } from './parameter.js'
import { locateTensor } from './safetensors.js'
import { handles, Tensor, text } from './tensor.js'

/** Options of {@link ValueTable}. */
export interface ValueTableOptions {
  /** Rows, N. A memory layer with `nKeys` n reads a table of n*n slots. */
  slots: number
  /** Width of a row, V. */
  dim: number
  /**
   * Default 'float32'. A 16-bit table is trained through float32 master values in the optimizer;
   * int8 is read only.
   */
  dtype?: 'float32' | 'bfloat16' | 'float16' | 'int8'
  /**
   * Rows drawn from N(0, std). Default: std 1/sqrt(dim), seed 0. int8 tables start at zero: write
   * `weight` and `scales`.
   */
  init?: { std?: number; seed?: number }
}

/** Options of {@link ValueTable.map}. */
export interface MapOptions {
  /** The CPU. */
  device: Device
  /** Name of the tensor `[slots]` float32 with the factor of each int8 row. */
  scales?: string
}

const rowTypes: readonly DType[] = ['float32', 'bfloat16', 'float16', 'int8']

/** @internal Rows that {@link ValueTable.map} found. */
export class MappedRows {
  constructor(
    readonly weight: Tensor,
    readonly scales: Tensor | undefined,
  ) {}
}

function mapTensor(where: string, device: Device, path: string, name: string): Tensor {
  const { dtype, shape, offset } = locateTensor(where, path, name)
  if (offset % dtypeRow(dtype).bytes !== 0)
    fail(
      'ERR_FILE_FORMAT',
      where,
      name,
      `begin at a multiple of ${dtypeRow(dtype).bytes} bytes to be mapped`,
      String(offset),
      'Save the file anew.',
    )
  return new Tensor(
    device,
    native.tensorMap(device.handle, path, offset, shape, dtypeCode(where, dtype)),
  )
}

/**
 * A table of value rows `[slots, dim]`, shared by any number of layers. Its gradient is never
 * dense: each layer's backward queues what it read, and the optimizer merges the queue and updates
 * each touched row once.
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
  /** `[slots, dim]`, the live rows. */
  readonly weight: Tensor
  /** `[slots]` float32: the factor of each row of an int8 table. */
  readonly scales: Tensor | undefined
  /** @internal Whether the rows lie in a file, which nothing writes to. */
  readonly mapped: boolean
  /** @internal */
  readonly handle: TableHandle

  /** @throws ERR_OPTION, ERR_VALUE, ERR_OUT_OF_MEMORY */
  constructor(device: Device, given: ValueTableOptions)
  /** @internal */
  constructor(device: Device, given: MappedRows)
  constructor(device: Device, given: ValueTableOptions | MappedRows) {
    const where = 'ValueTable'
    expectDevice(where, device)
    this.mapped = given instanceof MappedRows
    if (given instanceof MappedRows) {
      this.device = device
      this.weight = given.weight
      this.scales = given.scales
      ;[this.slots, this.dim] = given.weight.shape as [number, number]
      this.dtype = given.weight.dtype
      this.handle = native.tableCreate(
        this.weight.handle(where, 'weight'),
        this.scales?.handle(where, 'scales'),
      )
      return
    }
    const o = options(where, given, ['slots', 'dim', 'dtype', 'init'])
    this.device = device
    this.slots = integer(where, 'slots', o.slots, 1, 2 ** 31 - 1)
    this.dim = integer(where, 'dim', o.dim, 1, 2 ** 24)
    this.dtype = o.dtype ?? 'float32'
    choice(where, 'dtype', this.dtype, rowTypes)
    const init = options(`${where}: init`, o.init, ['std', 'seed'])
    const std = number(where, 'init.std', init.std ?? 1 / Math.sqrt(this.dim), 0)
    const seed = integer(where, 'init.seed', init.seed ?? 0, 0)
    const shape = [this.slots, this.dim]
    if (this.dtype === 'int8') {
      if (o.init)
        fail(
          'ERR_UNSUPPORTED',
          where,
          'init',
          'be left out for an int8 table',
          o.init,
          'Write its weight and scales.',
        )
      this.weight = device.zeros(shape, 'int8')
      this.scales = device.tensor(new Float32Array(this.slots).fill(1))
    } else {
      this.weight = device.normal(shape, { std, seed, dtype: this.dtype })
    }
    this.handle = native.tableCreate(
      this.weight.handle(where, 'weight'),
      this.scales?.handle(where, 'scales'),
    )
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
  static map(path: string, name: string, given: MapOptions): ValueTable {
    const where = 'ValueTable.map'
    const { device, scales } = options(where, given, ['device', 'scales'])
    expectDevice(where, device)
    const weight = mapTensor(where, device, path, name)
    if (weight.shape.length !== 2)
      fail('ERR_SHAPE', where, name, 'have shape [slots, dim]', text(weight.shape))
    if (!rowTypes.includes(weight.dtype))
      fail('ERR_DTYPE', where, name, `be one of ${rowTypes.join(', ')}`, weight.dtype)
    if ((weight.dtype === 'int8') !== (scales !== undefined))
      fail(
        'ERR_VALUE',
        where,
        'scales',
        weight.dtype === 'int8' ? 'name the scales of the int8 rows' : 'be left out',
        scales,
      )
    if (scales === undefined) return new ValueTable(device, new MappedRows(weight, undefined))
    const factors = mapTensor(where, device, path, scales)
    if (factors.dtype !== 'float32' || text(factors.shape) !== text([weight.shape[0]!]))
      fail(
        'ERR_SHAPE',
        where,
        scales,
        `be float32 ${text([weight.shape[0]!])}`,
        `${factors.dtype} ${text(factors.shape)}`,
      )
    return new ValueTable(device, new MappedRows(weight, factors))
  }

  /**
   * Number of reads that wait for the optimizer; none ever of a table that is read only, int8 or
   * mapped.
   */
  get pendingReads(): number {
    return native.tablePending(this.handle)
  }

  /** The merged gradient of all reads that wait, for inspection: the queue stays. */
  gradient(): SparseGrad {
    handles('ValueTable.gradient', { weight: this.weight })
    return new SparseGrad(this.device, native.tableGradient(this.handle))
  }

  /** Empties the queue of reads. */
  zeroGrad(): void {
    native.tableClear(this.handle)
  }

  /**
   * Overwrites the rows with a `[slots, dim]` tensor, which may be on another device or of another
   * float dtype. @throws ERR_SHAPE, ERR_DTYPE
   */
  load(weight: Tensor): void {
    handles('ValueTable.load', { weight })
    this.weight.handle('ValueTable.load', 'this')
    if (text(weight.shape) !== text(this.weight.shape)) {
      fail(
        'ERR_SHAPE',
        'ValueTable.load',
        'weight',
        `have shape ${text(this.weight.shape)}`,
        text(weight.shape),
      )
    }
    if (!convertible(weight.dtype, this.dtype))
      fail('ERR_DTYPE', 'ValueTable.load', 'weight', `be ${this.dtype}`, weight.dtype)
    copyAcross(this.weight, weight)
  }

  /** Gives the rows back. Layers that read the table throw ERR_DISPOSED afterwards. */
  dispose(): void {
    native.tableDispose(this.handle)
    this.weight.dispose()
    this.scales?.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
