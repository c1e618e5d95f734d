import { native, type SnapshotHandle } from './binding.js'
import type { Tensor } from './tensor.js'

/** Pieces of a tensor begin at multiples of this, which every copy is fast with. */
const alignment = 256

interface Part {
  name: string
  /** Bytes that were not read yet. */
  left: number
}

/** Bytes of one tensor. */
export interface Piece {
  name: string
  bytes: Uint8Array
}

/**
 * Tensors as they are when this is made, read once, in order. A tensor that is written before it
 * was read whole is copied on its device first; any other costs no memory.
 */
export class Snapshot {
  readonly #handle: SnapshotHandle
  readonly #parts: Part[]
  #at = 0 // the part at hand

  constructor(where: string, named: readonly (readonly [name: string, tensor: Tensor])[]) {
    this.#handle = native.snapshotCreate()
    try {
      this.#parts = named.map(([name, tensor]) => {
        native.snapshotAdd(this.#handle, tensor.handle(where, name))
        return { name, left: tensor.byteLength }
      })
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /**
   * The next bytes, of several tensors where they are small; none at the end.
   * @throws ERR_OUT_OF_MEMORY where there was none for a copy, and the faults of the tensors
   */
  async read(maxBytes: number, maxPieces: number): Promise<Piece[]> {
    const reads: Promise<Piece>[] = []
    let room = maxBytes
    try {
      for (; this.#at < this.#parts.length; this.#at++) {
        const part = this.#parts[this.#at]!
        const bytes = part.left <= room ? part.left : room - (room % alignment)
        if (bytes > 0) reads.push(this.#readNext(part, bytes))
        room -= bytes
        if (part.left > 0 || reads.length === maxPieces) break
        native.snapshotRelease(this.#handle, this.#at)
      }
    } catch (error) {
      await Promise.allSettled(reads)
      throw error
    }
    const settled = await Promise.allSettled(reads)
    return settled.map((read) => {
      if (read.status === 'rejected') throw read.reason
      return read.value
    })
  }

  #readNext(part: Part, bytes: number): Promise<Piece> {
    const view = native.snapshotNext(this.#handle, this.#at, bytes)
    part.left -= bytes
    const read = native.tensorRead(view)
    native.tensorDispose(view)
    const { name } = part
    return read.then((buffer) => ({ name, bytes: new Uint8Array(buffer) }))
  }

  /** Frees the copies. */
  dispose(): void {
    native.snapshotDispose(this.#handle)
  }
}
