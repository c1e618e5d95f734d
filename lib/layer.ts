// What memory and PEER layers share: forward, infer and backward, one native call each, and
// parameters of both kinds.

import { applied } from './autograd/apply.js'
import type { ContextHandle, ParameterHandle, TensorHandle } from './binding.js'
import { capturing, noteParameters, refuseInCapture } from './capturing.js'
import { Context } from './context.js'
import { isInstance } from './describe.js'
import type { Device } from './device.js'
import { fail } from './errors.js'
import { inspect } from './inspect.js'
import { type LayerInput, toInputTensor } from './layer-input.js'
import { noteOwner } from './made-tensors.js'
import {
  type DenseParameter,
  denseParameters,
  type Parameter,
  stateEntries,
  type TableParameter,
} from './parameter.js'
import { loadStateDict, type StateDict, stateDictOf } from './state-dict.js'
import { Tensor, tensorHandle } from './tensor.js'
import { readUsage, type SlotUsage } from './usage.js'
import { ValueTable } from './value-table.js'

/** @internal The native side of a layer. */
export interface NativeLayer {
  parameters: readonly ParameterHandle[]
  forward(x: TensorHandle): { output: TensorHandle; context: ContextHandle }
  infer(x: TensorHandle): TensorHandle
  backward(context: ContextHandle, dy: TensorHandle): TensorHandle
  usage(): TensorHandle
  dispose(): void
}

/** @internal Options as JSON has them. */
export type LayerConfig = Readonly<Record<string, number | string | boolean>>

/** A layer over value tables. */
export abstract class TableLayer {
  /** Where its parameters are. */
  readonly device: Device
  /** Width of the input, C. */
  readonly inputDim: number
  /** Width of the output. */
  readonly outputDim: number
  readonly #name: string
  readonly #native: NativeLayer
  readonly #dense: readonly DenseParameter[]

  /** @internal */
  protected constructor(
    name: string,
    device: Device,
    inputDim: number,
    outputDim: number,
    layer: NativeLayer,
  ) {
    this.device = device
    this.inputDim = inputDim
    this.outputDim = outputDim
    this.#name = name
    this.#native = layer
    this.#dense = denseParameters(device, layer.parameters)
    noteOwner(this)
  }

  /**
   * @internal The constructor's options that make such a layer again, without the seed and shared
   * tables: for models that are saved with their layers.
   */
  abstract readonly config: LayerConfig

  /** The tables as parameters, and whether each is the layer's own or shared. */
  protected abstract tables(): readonly { parameter: TableParameter; own: boolean }[]

  /** @internal The tables that the caller shares with other layers. */
  sharedTables(): readonly ValueTable[] {
    return this.tables().flatMap(({ parameter, own }) => (own ? [] : [parameter.table]))
  }

  /**
   * @param x `[tokens, inputDim]` or `[batch, time, inputDim]` float32
   * @returns the output with the same leading axes, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED, ERR_DEVICE_MISMATCH
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Context } {
    const { output, context } = this.#withInput('forward', 'x', x, (handle) =>
      this.#native.forward(handle),
    )
    return {
      output: new Tensor(this.device, output),
      context: new Context(this.device, context),
    }
  }

  /**
   * The output, recorded for `backward()` of what is computed from it; inside of `noGrad` the same
   * as `infer`. Arguments and errors as of `forward`.
   */
  apply(x: LayerInput): Tensor<'float32'> {
    return applied(`${this.#name}.apply`, this, x)
  }

  /** The output alone; saves nothing. Arguments and errors as of `forward`. */
  infer(x: LayerInput): Tensor<'float32'> {
    const output = this.#withInput('infer', 'x', x, (handle) => this.#native.infer(handle))
    return new Tensor(this.device, output)
  }

  /**
   * Adds to the dense parameters' gradients, queues what was read at the tables, and spends the
   * context.
   * @param dy gradient of the output, in its shape
   * @returns gradient of x, in its shape
   * @throws ERR_CONTEXT for a spent or foreign context; ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED
   */
  backward(context: Context, dy: LayerInput): Tensor<'float32'> {
    const saved = Context.handleOf(`${this.#name}.backward`, context)
    const dx = this.#withInput('backward', 'dy', dy, (handle) =>
      this.#native.backward(saved, handle),
    )
    return new Tensor(this.device, dx)
  }

  /**
   * What the forwards since the last call have read, so that a run whose table hardly learns can be
   * seen; `infer` does not count. Counting is always on and takes four bytes a slot: it adds to one
   * counter for each entry, under 1 % of a training step.
   * @throws ERR_DISPOSED
   */
  usage(): Promise<SlotUsage> {
    refuseInCapture(`${this.#name}.usage`, this.device)
    const [table] = this.tables()
    return readUsage(table!.parameter.table.slots, this.#native.usage())
  }

  /** Dense parameters, then tables, under their published names. */
  parameters(): readonly Parameter[] {
    return [...this.#dense, ...this.tables().map((t) => t.parameter)]
  }

  /** The live tensors by published name. */
  stateDict(): StateDict {
    return stateDictOf(this.parameters())
  }

  /**
   * Copies published tensors in, all or nothing. `keys` may be `[H*2*n, d]`. Shared tables may be
   * left out; a mapped one is compared in shape alone.
   * @throws ERR_STATE_DICT
   */
  loadStateDict(state: StateDict): void {
    const tables = this.tables()
    const shared = tables.filter(({ own }) => !own).map(({ parameter }) => parameter.name)
    const entries = stateEntries(this.parameters(), { optional: shared })
    loadStateDict(`${this.#name}.loadStateDict`, entries, state)
  }

  /** Frees the parameters, and the tables that are the layer's own. */
  dispose(): void {
    this.#native.dispose()
    for (const { value, grad } of this.#dense) {
      value.dispose()
      grad.dispose()
    }
    for (const { parameter, own } of this.tables()) if (own) parameter.table.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    const widths = `inputDim ${this.inputDim}, outputDim ${this.outputDim}`
    return `${this.#name} ${widths} on ${this.device.name}`
  }

  /** Calls native code with an input of the user, which may be numbers. */
  #withInput<T>(
    method: 'forward' | 'infer' | 'backward',
    name: 'x' | 'dy',
    input: LayerInput,
    call: (handle: TensorHandle) => T,
  ): T {
    const where = `${this.#name}.${method}`
    if (capturing(this.device))
      noteParameters([...this.#dense, ...this.tables().map(({ parameter }) => parameter)])
    const width = name === 'x' ? this.inputDim : this.outputDim
    const { tensor, temporary } = toInputTensor(where, name, input, this.device, width)
    try {
      return call(tensorHandle(where, name, tensor, this.device))
    } finally {
      temporary?.dispose()
    }
  }
}

/**
 * @internal Checks a table to share: alive, on the layer's device, with n*n slots and, if `dim` is
 * given, of that width.
 */
export function checkSharedTable(
  where: string,
  table: ValueTable,
  device: Device,
  slots: number,
  dim: number | undefined,
  name = 'values',
): ValueTable {
  if (!isInstance(table, ValueTable)) fail('ERR_VALUE', where, name, 'be a ValueTable', table)
  tensorHandle(where, name, table.weight, device)
  if (table.slots !== slots)
    fail('ERR_SHAPE', where, name, `have nKeys*nKeys = ${slots} slots`, String(table.slots))
  if (dim !== undefined && table.dim !== dim)
    fail('ERR_SHAPE', where, name, `have dim ${dim}`, String(table.dim))
  return table
}
