import { type LayerHandle, native } from './binding.js'
import { Context, takeInput } from './context.js'
import type { Device } from './device.js'
import { fail } from './errors.js'
import { boolean, choice, integer, options } from './options.js'
import { type DenseParameter, denseParameters, loadInto, type Parameter, type StateDict, stateDictOf, tableParameter } from './parameter.js'
import { checkQuery, type QueryOptions, queryOptionNames } from './query-options.js'
import { handles, Tensor } from './tensor.js'
import { ValueTable } from './value-table.js'

/** Options of {@link MemoryLayer}. */
export interface MemoryLayerOptions extends QueryOptions {
  /** Width of the output. Default inputDim. */
  outputDim?: number
  /** Width of a value row, V. Default: the shared table's, else outputDim. */
  valueDim?: number
  /** A table of nKeys*nKeys slots to share with other layers. Left out: a table of its own. */
  values?: ValueTable
  /** 'silu' (default) is Memory+: `W2 (y * silu(W1 x))`; 'none' gives the bag itself. */
  gate?: 'silu' | 'none'
  /** Multiplies the output by `sigmoid(w . x + b)`. Default false. */
  outputGate?: boolean
  /** Of a table of its own. Default 'float32'. */
  dtype?: 'float32' | 'bfloat16' | 'float16'
}

/** Input or gradient of a layer: a tensor `[tokens, width]` or `[batch, time, width]`, or numbers as rows of that width. */
export type LayerInput = Tensor | Float32Array | readonly number[]

/**
 * A memory layer (Berges et al. 2024, section 2): a query per head finds the k best of n*n slots by product keys; their value rows are
 * summed with softmax weights, gated by `silu(W1 x)` and projected. Forward and backward are one native call each.
 */
export class MemoryLayer {
  /** Where its parameters are. */
  readonly device: Device
  /** Width of the input, C. */
  readonly inputDim: number
  /** Width of the output. */
  readonly outputDim: number
  /** The value table, its own or shared. */
  readonly values: ValueTable
  readonly #handle: LayerHandle
  readonly #dense: DenseParameter[]
  readonly #shared: boolean

  /** @throws ERR_OPTION, ERR_VALUE, ERR_SHAPE, ERR_DEVICE_MISMATCH, ERR_OUT_OF_MEMORY */
  constructor(device: Device, given: MemoryLayerOptions) {
    const where = 'MemoryLayer'
    const o = options(where, given, [...queryOptionNames, 'outputDim', 'valueDim', 'values', 'gate', 'outputGate', 'dtype'])
    const q = checkQuery(where, device, o)
    this.device = device
    this.inputDim = q.inputDim
    this.outputDim = integer(where, 'outputDim', o.outputDim ?? q.inputDim)
    const silu = choice(where, 'gate', o.gate ?? 'silu', ['none', 'silu']) === 1
    const outputGate = boolean(where, 'outputGate', o.outputGate ?? false)
    const valueDim = o.valueDim === undefined ? undefined : integer(where, 'valueDim', o.valueDim)
    const slots = q.nKeys * q.nKeys
    this.#shared = o.values !== undefined
    if (o.values !== undefined) {
      this.values = checkShared(where, o.values, device, slots, valueDim)
      if (o.dtype !== undefined && o.dtype !== o.values.dtype)
        fail('ERR_DTYPE', where, 'dtype', `be left out or ${o.values.dtype}, the shared table's`, o.dtype)
    } else {
      const dim = valueDim ?? this.outputDim
      this.values = new ValueTable(device, { slots, dim, dtype: o.dtype ?? 'float32', init: { std: 1 / Math.sqrt(dim), seed: q.seed } })
    }
    this.#handle = native.memoryLayerCreate(
      device.handle,
      this.values.handle,
      q.inputDim,
      q.heads,
      q.knn,
      q.nKeys,
      q.keyDim,
      q.queryBias,
      q.queryNorm,
      q.seed,
      this.outputDim,
      silu,
      outputGate,
    )
    this.#dense = denseParameters(device, this.#handle.parameters)
  }

  /**
   * @param x `[tokens, inputDim]` or `[batch, time, inputDim]` float32
   * @returns the output with the same leading axes, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED, ERR_DEVICE_MISMATCH
   */
  forward(x: LayerInput): { output: Tensor; context: Context } {
    const { tensor, temporary } = takeInput('MemoryLayer.forward', 'x', x, this.device, this.inputDim)
    const [handle] = handles('MemoryLayer.forward', { x: tensor }, this.device)
    const r = native.memoryLayerForward(this.#handle, handle!)
    temporary?.dispose()
    return { output: new Tensor(this.device, r.output), context: new Context(this.device, r.context) }
  }

  /** The output alone; saves nothing. Arguments and errors as {@link MemoryLayer.forward}. */
  infer(x: LayerInput): Tensor {
    const { tensor, temporary } = takeInput('MemoryLayer.infer', 'x', x, this.device, this.inputDim)
    const [handle] = handles('MemoryLayer.infer', { x: tensor }, this.device)
    const output = new Tensor(this.device, native.memoryLayerInfer(this.#handle, handle!))
    temporary?.dispose()
    return output
  }

  /**
   * Adds to the dense parameters' gradients, queues the read at the value table, and spends the context.
   * @param dy gradient of the output, in its shape
   * @returns gradient of x
   * @throws ERR_CONTEXT for a spent or foreign context; ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED
   */
  backward(context: Context, dy: LayerInput): Tensor {
    const where = 'MemoryLayer.backward'
    const saved = Context.handleOf(where, context)
    const { tensor, temporary } = takeInput(where, 'dy', dy, this.device, this.outputDim)
    const [handle] = handles(where, { dy: tensor }, this.device)
    const dx = new Tensor(this.device, native.memoryLayerBackward(this.#handle, saved, handle!))
    temporary?.dispose()
    return dx
  }

  /** Dense parameters, then the value table, under their published names. */
  parameters(): readonly Parameter[] {
    return [...this.#dense, tableParameter('values.weight', this.values)]
  }

  /** The live tensors by published name. */
  stateDict(): StateDict {
    return stateDictOf(this.parameters())
  }

  /**
   * Copies published tensors in, all or nothing. `keys` may be `[H*2*n, d]`. A layer that reads a shared table may leave `values.weight` out.
   * @throws ERR_STATE_DICT
   */
  loadStateDict(state: StateDict): void {
    loadInto('MemoryLayer.loadStateDict', this.parameters(), state, this.#shared ? ['values.weight'] : [])
  }

  /** Gives the parameters back, and the table if it is the layer's own. */
  dispose(): void {
    native.layerDispose(this.#handle)
    for (const p of this.#dense) {
      p.value.dispose()
      p.grad.dispose()
    }
    if (!this.#shared) this.values.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** A table given to a layer: alive, on the layer's device, with n*n slots and the width asked for. */
export function checkShared(
  where: string,
  table: ValueTable,
  device: Device,
  slots: number,
  dim: number | undefined,
  name = 'values',
): ValueTable {
  if (!(table instanceof ValueTable)) fail('ERR_VALUE', where, name, 'be a ValueTable', table)
  handles(where, { [name]: table.weight }, device)
  if (table.slots !== slots) fail('ERR_SHAPE', where, name, `have nKeys*nKeys = ${slots} slots`, String(table.slots))
  if (dim !== undefined && table.dim !== dim) fail('ERR_SHAPE', where, name, `have dim ${dim}`, String(table.dim))
  return table
}
