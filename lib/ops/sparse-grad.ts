import { native, type SparseHandle } from '../binding.js'
import type { Device } from '../device.js'
import { handles, Tensor } from '../tensor.js'

/**
 * The gradient of a table that was read by bags: the touched rows alone. It stays on the device,
 * its number of rows too.
 */
export class SparseGrad {
  readonly #device: Device
  readonly #rows: Tensor
  readonly #values: Tensor
  readonly #count: Tensor
  readonly #slots: number

  /** @internal */
  constructor(device: Device, handle: SparseHandle) {
    this.#device = device
    this.#rows = new Tensor(device, handle.rows)
    this.#values = new Tensor(device, handle.values)
    this.#count = new Tensor(device, handle.count)
    this.#slots = handle.slots
  }

  /** `[N, V]` of the table. */
  get shape(): readonly number[] {
    return [this.#slots, this.#values.shape[1]!]
  }

  /** The R touched rows, ascending, and their gradients `[R * V]`. */
  async data(): Promise<{ rows: Int32Array; values: Float32Array }> {
    const count = ((await this.#count.data()) as Int32Array)[0]!
    const rows = this.#rows.rows(0, count)
    const values = this.#values.rows(0, count)
    try {
      return {
        rows: (await rows.data()) as Int32Array,
        values: (await values.data()) as Float32Array,
      }
    } finally {
      rows.dispose()
      values.dispose()
    }
  }

  /** The same gradient as a dense `[N, V]` tensor, for small tables and tests. */
  toDense(): Tensor {
    const [rows, values, count] = handles('SparseGrad.toDense', {
      rows: this.#rows,
      values: this.#values,
      count: this.#count,
    })
    return new Tensor(this.#device, native.sparseToDense(rows!, values!, count!, this.#slots))
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#rows.dispose()
    this.#values.dispose()
    this.#count.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
