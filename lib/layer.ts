// What memory and PEER layers share: the three verbs around one native call each, and dense
// parameters beside tables.

import type { ContextHandle, ParameterHandle, TensorHandle } from './binding.js'
import { Context, type LayerInput, takeInput } from './context.js'
import type { Device } from './device.js'
import { fail } from './errors.js'
import {
  type DenseParameter,
  denseParameters,
  loadInto,
  type Parameter,
  type StateDict,
  stateDictOf,
} from './parameter.js'
import { handles, Tensor } from './tensor.js'
import { ValueTable } from './value-table.js'

/** @internal The native side of a layer. */
export interface NativeLayer {
  parameters: readonly ParameterHandle[]
  forward(x: TensorHandle): { output: TensorHandle; context: ContextHandle }
  infer(x: TensorHandle): TensorHandle
  backward(context: ContextHandle, dy: TensorHandle): TensorHandle
  dispose(): void
}

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
  }

  /** The tables as parameters, and whether each is the layer's own. */
  protected abstract tables(): readonly { parameter: Parameter & { kind: 'table' }; own: boolean }[]

  /**
   * @param x `[tokens, inputDim]` or `[batch, time, inputDim]` float32
   * @returns the output with the same leading axes, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED, ERR_DEVICE_MISMATCH
   */
  forward(x: LayerInput): { output: Tensor; context: Context } {
    const r = this.#take('forward', 'x', x, this.inputDim, (handle) => this.#native.forward(handle))
    return {
      output: new Tensor(this.device, r.output),
      context: new Context(this.device, r.context),
    }
  }

  /** The output alone; saves nothing. Arguments and errors as of `forward`. */
  infer(x: LayerInput): Tensor {
    return new Tensor(
      this.device,
      this.#take('infer', 'x', x, this.inputDim, (handle) => this.#native.infer(handle)),
    )
  }

  /**
   * Adds to the dense parameters' gradients, queues what was read at the tables, and spends the
   * context.
   * @param dy gradient of the output, in its shape
   * @returns gradient of x
   * @throws ERR_CONTEXT for a spent or foreign context; ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED
   */
  backward(context: Context, dy: LayerInput): Tensor {
    const saved = Context.handleOf(`${this.#name}.backward`, context)
    return new Tensor(
      this.device,
      this.#take('backward', 'dy', dy, this.outputDim, (handle) =>
        this.#native.backward(saved, handle),
      ),
    )
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
    const shared = this.tables().filter((t) => !t.own)
    loadInto(
      `${this.#name}.loadStateDict`,
      this.parameters(),
      state,
      shared.map((t) => t.parameter.name),
    )
  }

  /** Gives the parameters back, and the tables that are the layer's own. */
  dispose(): void {
    this.#native.dispose()
    for (const p of this.#dense) {
      p.value.dispose()
      p.grad.dispose()
    }
    for (const t of this.tables()) if (t.own) t.parameter.table.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  #take<T>(
    verb: string,
    name: string,
    x: LayerInput,
    width: number,
    call: (handle: TensorHandle) => T,
  ): T {
    const where = `${this.#name}.${verb}`
    const { tensor, temporary } = takeInput(where, name, x, this.device, width)
    try {
      return call(handles(where, { [name]: tensor }, this.device)[0]!)
    } finally {
      temporary?.dispose()
    }
  }
}

/**
 * @internal A table given to a layer: alive, on the layer's device, with n*n slots and the width
 * asked for.
 */
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
  if (table.slots !== slots)
    fail('ERR_SHAPE', where, name, `have nKeys*nKeys = ${slots} slots`, String(table.slots))
  if (dim !== undefined && table.dim !== dim)
    fail('ERR_SHAPE', where, name, `have dim ${dim}`, String(table.dim))
  return table
}
