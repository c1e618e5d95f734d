import { native, type SparseHandle } from '../binding.js'
import type { Device } from '../device.js'
import { inspect } from '../inspect.js'
import { ownTensors } from '../made-tensors.js'
import { formatShape, Tensor, tensorHandle } from '../tensor.js'

/**
 * The gradient of a table that was read by bags: the touched rows alone. It stays on the device,
 * and so does the number of rows.
 */
export class SparseGrad {
  readonly #device: Device
  readonly #rows: Tensor<'int32'>
  readonly #values: Tensor<'float32'>
  readonly #count: Tensor<'int32'>
  readonly #slots: number
  readonly #width: number

  /** @internal */
  constructor(device: Device, handle: SparseHandle) {
    this.#device = device
    this.#rows = new Tensor(device, handle.rows)
    this.#values = new Tensor(device, handle.values)
    this.#count = new Tensor(device, handle.count)
    this.#slots = handle.slots
    this.#width = this.#values.shape[1] ?? 0
  }

  /** `[N, V]` of the table. */
  get shape(): readonly number[] {
    return [this.#slots, this.#width]
  }

  /**
   * The R touched rows, ascending, and their gradients `[R * V]`.
   * @throws ERR_DISPOSED; ERR_INDEX_RANGE if the read had an index outside the table
   */
  async data(): Promise<{ rows: Int32Array; values: Float32Array }> {
    const [count] = await this.#count.data()
    const rows = this.#rows.rows(0, count ?? 0)
    const values = this.#values.rows(0, count ?? 0)
    try {
      return { rows: await rows.data(), values: await values.data() }
    } finally {
      rows.dispose()
      values.dispose()
    }
  }

  /** The same gradient as a dense `[N, V]` tensor, for small tables and tests. */
  toDense(): Tensor<'float32'> {
    const where = 'SparseGrad.toDense'
    const dense = native.sparseToDense(
      tensorHandle(where, 'rows', this.#rows),
      tensorHandle(where, 'values', this.#values),
      tensorHandle(where, 'count', this.#count),
      this.#slots,
    )
    return new Tensor(this.#device, dense)
  }

  /** Frees the memory. */
  dispose(): void {
    this.#rows.dispose()
    this.#values.dispose()
    this.#count.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [ownTensors](): Tensor[] {
    return [this.#rows, this.#values, this.#count]
  }

  /** @internal */
  [inspect](): string {
    const disposed = this.#values.disposed ? ', disposed' : ''
    return `SparseGrad ${formatShape(this.shape)} on ${this.#device.name}${disposed}`
  }
}
