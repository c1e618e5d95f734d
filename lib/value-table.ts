import { native, type TableHandle } from './binding.js'
import { Device } from './device.js'
import { type DType, isHalf } from './dtype.js'
import { fail } from './errors.js'
import { SparseGrad } from './ops.js'
import { choice, integer, number, options } from './options.js'
import { copyAcross } from './parameter.js'
import { handles, type Tensor, text } from './tensor.js'

export interface ValueTableOptions {
  /** Rows, N. A memory layer with `nKeys` n reads a table of n*n slots. */
  slots: number
  /** Width of a row, V. */
  dim: number
  /** Default 'float32'. A 16-bit table is trained through float32 master values in the optimizer; int8 is read only. */
  dtype?: 'float32' | 'bfloat16' | 'float16' | 'int8'
  /** Rows drawn from N(0, std). Default: std 1/sqrt(dim), seed 0. int8 tables start at zero: write `weight` and `scales`. */
  init?: { std?: number; seed?: number }
}

/**
 * A table of value rows `[slots, dim]`, shared by any number of layers. Its gradient is never dense: each layer's backward queues what it
 * read, and the optimizer merges the queue and updates each touched row once.
 */
export class ValueTable {
  readonly device: Device
  readonly slots: number
  readonly dim: number
  readonly dtype: DType
  /** `[slots, dim]`, the live rows. */
  readonly weight: Tensor
  /** `[slots]` float32: the factor of each row of an int8 table. */
  readonly scales: Tensor | undefined
  /** @internal */
  readonly handle: TableHandle

  /** @throws ERR_OPTION, ERR_VALUE, ERR_OUT_OF_MEMORY */
  constructor(device: Device, given: ValueTableOptions) {
    const where = 'ValueTable'
    if (!(device instanceof Device)) fail('ERR_DEVICE', where, 'device', 'be a Device', device, 'Open one with openDevice().')
    const o = options(where, given, ['slots', 'dim', 'dtype', 'init'])
    this.device = device
    this.slots = integer(where, 'slots', o.slots, 1, 2 ** 31 - 1)
    this.dim = integer(where, 'dim', o.dim, 1, 2 ** 24)
    this.dtype = o.dtype ?? 'float32'
    choice(where, 'dtype', this.dtype, ['float32', 'bfloat16', 'float16', 'int8'])
    const init = options(`${where}: init`, o.init, ['std', 'seed'])
    const std = number(where, 'init.std', init.std ?? 1 / Math.sqrt(this.dim), 0)
    const seed = integer(where, 'init.seed', init.seed ?? 0, 0)
    const shape = [this.slots, this.dim]
    if (this.dtype === 'int8') {
      if (o.init) fail('ERR_UNSUPPORTED', where, 'init', 'be left out for an int8 table', o.init, 'Write its weight and scales.')
      this.weight = device.zeros(shape, 'int8')
      this.scales = device.tensor(new Float32Array(this.slots).fill(1))
    } else {
      this.weight = device.normal(shape, { std, seed, dtype: this.dtype })
    }
    this.handle = native.tableCreate(this.weight.handle(where, 'weight'), this.scales?.handle(where, 'scales'))
  }

  /** Number of reads that wait for the optimizer. */
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

  /** Overwrites the rows with a `[slots, dim]` tensor, which may be on another device or of another float dtype. @throws ERR_SHAPE, ERR_DTYPE */
  load(weight: Tensor): void {
    handles('ValueTable.load', { weight }, weight.device)
    if (text(weight.shape) !== text(this.weight.shape)) {
      fail('ERR_SHAPE', 'ValueTable.load', 'weight', `have shape ${text(this.weight.shape)}`, text(weight.shape))
    }
    const float = (dtype: DType) => dtype === 'float32' || isHalf(dtype)
    if (weight.dtype !== this.dtype && !(float(weight.dtype) && float(this.dtype))) {
      fail('ERR_DTYPE', 'ValueTable.load', 'weight', `be ${this.dtype}`, weight.dtype)
    }
    copyAcross(this.weight, weight)
  }

  /** Gives the rows back. Layers that read the table throw ERR_DISPOSED afterwards. */
  dispose(): void {
    native.tableDispose(this.handle)
    this.weight.dispose()
    this.scales?.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
