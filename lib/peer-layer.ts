import { native, type PeerHandle } from './binding.js'
import { Context, takeInput } from './context.js'
import type { Device } from './device.js'
import { checkShared, type LayerInput } from './memory-layer.js'
import { activationCode } from './ops.js'
import { choice, integer, options } from './options.js'
import { type DenseParameter, denseParameters, loadInto, type Parameter, type StateDict, stateDictOf, tableParameter } from './parameter.js'
import { checkQuery, type QueryOptions, queryOptionNames } from './query-options.js'
import { handles, Tensor } from './tensor.js'
import { ValueTable } from './value-table.js'

/** Options of {@link PeerLayer}. */
export interface PeerLayerOptions extends QueryOptions {
  /** Width of the output. Default: the shared `up` table's, else inputDim. */
  outputDim?: number
  /** Default 'gelu' (exact). */
  activation?: 'gelu' | 'relu'
  /** A table `[nKeys*nKeys, inputDim]` to share. Left out: one of its own. */
  down?: ValueTable
  /** A table `[nKeys*nKeys, outputDim]` to share. Left out: one of its own. */
  up?: ValueTable
  /** Of tables of its own. Default 'float32'. */
  dtype?: 'float32'
}

/**
 * Parameter-efficient expert retrieval (PEER, He 2024): product keys choose k experts a head, each one hidden unit:
 * `output = sum_l w_l f(<x, down_l>) up_l`. Published names `values_u` (down) and `values_v` (up).
 */
export class PeerLayer {
  /** Where its parameters are. */
  readonly device: Device
  /** Width of the input, C. */
  readonly inputDim: number
  /** Width of the output. */
  readonly outputDim: number
  /** What each expert reads: `[nKeys*nKeys, inputDim]`. */
  readonly down: ValueTable
  /** What each expert writes: `[nKeys*nKeys, outputDim]`. */
  readonly up: ValueTable
  readonly #handle: PeerHandle
  readonly #dense: DenseParameter[]
  readonly #own: ValueTable[] = []

  /** @throws ERR_OPTION, ERR_VALUE, ERR_SHAPE, ERR_DEVICE_MISMATCH, ERR_OUT_OF_MEMORY */
  constructor(device: Device, given: PeerLayerOptions) {
    const where = 'PeerLayer'
    const o = options(where, given, [...queryOptionNames, 'outputDim', 'activation', 'down', 'up', 'dtype'])
    const q = checkQuery(where, device, o)
    choice(where, 'activation', o.activation ?? 'gelu', ['gelu', 'relu'])
    choice(where, 'dtype', o.dtype ?? 'float32', ['float32'])
    this.device = device
    this.inputDim = q.inputDim
    this.outputDim = integer(where, 'outputDim', o.outputDim ?? o.up?.dim ?? q.inputDim)
    const slots = q.nKeys * q.nKeys
    const make = (name: 'down' | 'up', dim: number, seed: number): ValueTable => {
      const shared = o[name]
      if (shared !== undefined) return checkShared(where, shared, device, slots, dim, name)
      const own = new ValueTable(device, { slots, dim, init: { std: 1 / Math.sqrt(dim), seed } })
      this.#own.push(own)
      return own
    }
    this.down = make('down', q.inputDim, 2 * q.seed)
    this.up = make('up', this.outputDim, 2 * q.seed + 1)
    this.#handle = native.peerLayerCreate(
      device.handle,
      this.down.handle,
      this.up.handle,
      q.inputDim,
      q.heads,
      q.knn,
      q.nKeys,
      q.keyDim,
      q.queryBias,
      q.queryNorm,
      q.seed,
      activationCode(where, o.activation ?? 'gelu'),
    )
    this.#dense = denseParameters(device, this.#handle.parameters)
  }

  /**
   * @param x `[tokens, inputDim]` or `[batch, time, inputDim]` float32
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED, ERR_DEVICE_MISMATCH
   */
  forward(x: LayerInput): { output: Tensor; context: Context } {
    const { tensor, temporary } = takeInput('PeerLayer.forward', 'x', x, this.device, this.inputDim)
    const [handle] = handles('PeerLayer.forward', { x: tensor }, this.device)
    const r = native.peerLayerForward(this.#handle, handle!)
    temporary?.dispose()
    return { output: new Tensor(this.device, r.output), context: new Context(this.device, r.context) }
  }

  /** The output alone; saves nothing. Arguments and errors as {@link PeerLayer.forward}. */
  infer(x: LayerInput): Tensor {
    const { tensor, temporary } = takeInput('PeerLayer.infer', 'x', x, this.device, this.inputDim)
    const [handle] = handles('PeerLayer.infer', { x: tensor }, this.device)
    const output = new Tensor(this.device, native.peerLayerInfer(this.#handle, handle!))
    temporary?.dispose()
    return output
  }

  /**
   * Adds to the dense parameters' gradients, queues the reads at both tables, and spends the context. Returns the gradient of x.
   * @throws ERR_CONTEXT for a spent or foreign context; ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED
   */
  backward(context: Context, dy: LayerInput): Tensor {
    const where = 'PeerLayer.backward'
    const saved = Context.handleOf(where, context)
    const { tensor, temporary } = takeInput(where, 'dy', dy, this.device, this.outputDim)
    const [handle] = handles(where, { dy: tensor }, this.device)
    const dx = new Tensor(this.device, native.peerLayerBackward(this.#handle, saved, handle!))
    temporary?.dispose()
    return dx
  }

  /** Dense parameters, then the two tables, under their published names. */
  parameters(): readonly Parameter[] {
    return [...this.#dense, tableParameter('values_u.weight', this.down), tableParameter('values_v.weight', this.up)]
  }

  /** The live tensors by published name. */
  stateDict(): StateDict {
    return stateDictOf(this.parameters())
  }

  /** Copies published tensors in, all or nothing. Shared tables may be left out. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    const optional = [
      ...(this.#own.includes(this.down) ? [] : ['values_u.weight']),
      ...(this.#own.includes(this.up) ? [] : ['values_v.weight']),
    ]
    loadInto('PeerLayer.loadStateDict', this.parameters(), state, optional)
  }

  /** Gives the parameters back, and the tables that are the layer's own. */
  dispose(): void {
    native.peerDispose(this.#handle)
    for (const p of this.#dense) {
      p.value.dispose()
      p.grad.dispose()
    }
    for (const table of this.#own) table.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
