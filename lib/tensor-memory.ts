// The memory of a tensor, what holds it (the tensor until dispose(), a graph until its backward),
// and the tensor's gradient.

import { Edge, edgeDisposed, type Leaf } from './autograd/graph.js'
import { native, type TensorHandle } from './binding.js'
import { noteUse } from './capturing.js'
import { type DType, dtypeInfo } from './dtype.js'
import { fail, MemoryLayersError } from './errors.js'
import { formatShape } from './shape.js'
import type { Tensor } from './tensor.js'

/** Memory that recorded calls need, whether its tensor was disposed or not. */
export interface Hold {
  readonly handle: TensorHandle
  /** How many saved it. */
  count: number
  /** The tensor was disposed: the last that saved it frees the memory. */
  disposed: boolean
}

/** The base of Tensor. */
export abstract class TensorMemory {
  abstract readonly shape: readonly number[]
  abstract readonly dtype: DType
  #handle: TensorHandle | undefined
  #hold: Hold | undefined
  #freedWithGraph = false
  /** @internal Where its gradient is collected, if it requires one. */
  edge: Edge | undefined
  /** @internal Neither a backward nor a tidy disposes it. */
  kept = false

  /** @internal */
  protected constructor(handle: TensorHandle) {
    this.#handle = handle
  }

  /** Whether the tensor was disposed. */
  get disposed(): boolean {
    return this.#handle === undefined
  }

  /**
   * Whether it was computed, with recording on, from something that requires a gradient, or is such
   * a thing itself: a parameter's value, or a tensor after `requireGrad()`.
   */
  get requiresGrad(): boolean {
    return this.edge !== undefined
  }

  /**
   * The gradient after `backward()`, float32 in this shape: of a dense parameter its `grad`; of a
   * tensor after `requireGrad()` undefined until a backward adds to it. Gradients add up until it
   * is disposed, by itself or with this tensor. A value table's is sparse: `table.gradient()`.
   */
  get grad(): Tensor<'float32'> | undefined {
    const grad = this.edge?.leaf?.grad
    return grad?.disposed ? undefined : (grad as Tensor<'float32'> | undefined)
  }

  /**
   * Asks for a gradient of this tensor, which what is computed from it then requires.
   * @returns this
   * @throws ERR_DTYPE for integers
   */
  requireGrad(): this {
    const where = 'Tensor.requireGrad'
    this.handle(where, 'this')
    if (dtypeInfo(this.dtype).range) fail('ERR_DTYPE', where, 'this', 'be of floats', this.dtype)
    if (!this.edge?.leaf) this.setLeaf({ grad: undefined })
    return this
  }

  /** @internal Whether this is a tensor, and no Proxy of one. */
  static isTensor(value: unknown): value is TensorMemory {
    return typeof value === 'object' && value !== null && #handle in value
  }

  /** @internal Whether this is a tensor that requires a gradient; it may be anything. */
  static hasEdge(value: unknown): boolean {
    return TensorMemory.isTensor(value) && value.edge !== undefined
  }

  /** @internal The native handle; throws ERR_DISPOSED after `dispose()`. */
  handle(where: string, argument: string): TensorHandle {
    if (this.#handle === undefined) {
      const tensor = `"${argument}" is a tensor ${formatShape(this.shape)} that was`
      const [fate, hint] = this.#freedWithGraph
        ? [
            'freed with its graph, by backward() or by dispose() of what was computed from it',
            'Call keep(tensor) before, or compute what is not trained on inside of noGrad().',
          ]
        : [
            'disposed',
            'Use it before dispose(), or keep it outside the `using` block that disposes it.',
          ]
      throw new MemoryLayersError('ERR_DISPOSED', `${where}: ${tensor} ${fate}.\n  ${hint}`)
    }
    noteUse(this)
    return this.#handle
  }

  /** @internal Holds the memory for a backward. */
  hold(where: string, argument: string): Hold {
    const handle = this.handle(where, argument)
    this.#hold ??= { handle, count: 0, disposed: false }
    this.#hold.count++
    return this.#hold
  }

  /**
   * @internal Lets a backward use the memory that it holds of this tensor, which may be disposed.
   * @returns whether it was: then the handle is to be taken back
   */
  lendHandle({ handle }: Hold): boolean {
    if (this.#handle !== undefined) return false
    this.#handle = handle
    return true
  }

  /** @internal */
  takeHandleBack(): void {
    this.#handle = undefined
  }

  /**
   * Frees the memory once the work that uses it has run, and no recorded call needs it. Any later
   * use throws ERR_DISPOSED; a second call does nothing.
   */
  dispose(): void {
    const { edge } = this
    if (!this.#free()) return
    if (edge?.leaf?.grad && !edge.leaf.into) edge.leaf.grad.dispose()
    if (edge?.node) edgeDisposed(edge)
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal Disposes a result of a recorded call that was spent or freed. */
  freeWithGraph(): void {
    if (!this.#free()) return
    this.#freedWithGraph = true
    if (this.edge?.node) this.edge.node.alive--
  }

  /** @internal Makes a leaf of it: gradients end there. */
  setLeaf(leaf: Leaf): void {
    if (this.edge) this.edge.leaf = leaf
    else this.edge = new Edge(undefined, leaf)
  }

  #free(): boolean {
    const handle = this.#handle
    if (handle === undefined) return false
    this.#handle = undefined
    const hold = this.#hold
    this.#hold = undefined // the memory of a dropped graph is the collector's, whoever has this
    if (hold && hold.count > 0) hold.disposed = true
    else native.tensorDispose(handle)
    return true
  }
}
