import { record } from '../autograd/record.js'
import { isRecording } from '../autograd/recording.js'
import { native } from '../binding.js'
import { checkDevice, type Device } from '../device.js'
import type { NumericData } from '../encode.js'
import { fail } from '../errors.js'
import { inspect } from '../inspect.js'
import { constantTensor } from '../new-tensor.js'
import { toIndexTensor } from '../ops/indices.js'
import * as ops from '../ops.js'
import { checkInteger, checkNumber, checkOptions, checkSeed } from '../options.js'
import { type Parameter, stateEntries, tableParameter } from '../parameter.js'
import { loadStateDict, type StateDict, stateDictOf } from '../state-dict.js'
import { formatShape, Tensor, tensorHandle } from '../tensor.js'
import { ValueTable } from '../value-table.js'
import { explicitly, Saved } from './explicit-module.js'
import { checkTokenTensor } from './tokens.js'

/** Options of {@link Embedding}. */
export interface EmbeddingOptions {
  /** Rows: the size of the vocabulary. */
  count: number
  /** Width of a row. */
  dim: number
  /** Of the initial rows, N(0, std). Default 1. */
  std?: number
  /** Of the initial rows. Default: the next of the device's counter. */
  seed?: number
}

/** @internal */
export type EmbeddingSaved = { indices: Tensor }

/**
 * An embedding of token numbers. Its rows are a {@link ValueTable}: the gradient is sparse, and a
 * step touches the rows that were read.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { Embedding, Linear } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const embedding = new Embedding(device, { count: 100, dim: 64 })
 * const x = embedding.apply([5, 17, 99]) // [3, 64]
 * const head = new Linear(device, { inputDim: 64, outputDim: 100, weight: embedding.table })
 * const logits = head.apply(x) // [3, 100]
 * ```
 */
export class Embedding {
  /** The rows, `[count, dim]`. */
  readonly table: ValueTable
  readonly #device: Device

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: EmbeddingOptions) {
    const where = 'Embedding'
    checkDevice(where, device)
    const checked = checkOptions(where, options, ['count', 'dim', 'std', 'seed'])
    const seed = checkSeed(where, checked.seed)
    this.#device = device
    this.table = new ValueTable(device, {
      slots: checkInteger(where, 'count', checked.count),
      dim: checkInteger(where, 'dim', checked.dim),
      init: {
        std: checkNumber(where, 'std', checked.std ?? 1, 0),
        ...(seed !== undefined && { seed }),
      },
    })
    this.table.embedding = true
  }

  /**
   * @param tokens `[T]` or `[batch, time]` int32, or numbers `[T]`; -1 is padding and gives zeros
   * @returns the rows `[..., dim]`, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the call for numbers, at the next wait for
   * tensors
   */
  forward(tokens: Tensor | NumericData): {
    output: Tensor<'float32'>
    context: Saved<EmbeddingSaved>
  } {
    return explicitly(() => {
      const where = 'Embedding.forward'
      const given = Tensor.is(tokens) ? this.#copyTokens(where, tokens) : tokens
      const indices = this.#toIndices(where, given)
      const output = ops.embedding(this.table.weight, indices)
      return { output, context: new Saved(this, { indices }, {}) }
    })
  }

  /**
   * The rows, recorded for `backward()` of what is computed from them; inside of `noGrad` the same
   * as `infer`. Arguments and errors as {@link Embedding.forward}.
   */
  apply(tokens: Tensor | NumericData): Tensor<'float32'> {
    if (!isRecording()) return this.infer(tokens)
    const { output, context } = this.forward(tokens)
    record<never, Tensor>('Embedding.apply', {}, output, {
      saved: {},
      backward: (dy) => {
        this.backward(context, dy)
        return {}
      },
      release: () => context.dispose(),
    })
    return output
  }

  /** The rows alone. Arguments and errors as {@link Embedding.forward}. */
  infer(tokens: Tensor | NumericData): Tensor<'float32'> {
    return explicitly(() => {
      const where = 'Embedding.infer'
      if (Tensor.is(tokens)) checkTokenTensor(where, 'tokens', tokens, this.#device)
      const indices = this.#toIndices(where, tokens)
      const output = ops.embedding(this.table.weight, indices)
      if (indices !== tokens) indices.dispose()
      return output
    })
  }

  /**
   * Queues the read at the table and spends the context; there is no gradient of token numbers.
   * @param dy gradient of the output, in its shape
   * @throws ERR_CONTEXT, ERR_SHAPE, ERR_DTYPE
   */
  backward(context: Saved<EmbeddingSaved>, dy: Tensor): void {
    const where = 'Embedding.backward'
    Saved.spend(where, context, this, this.#device, ({ indices }) => {
      tensorHandle(where, 'dy', dy, this.#device)
      if (dy.size !== indices.size * this.table.dim) {
        const requirement = `have ${indices.size} rows of ${this.table.dim}, as the output has`
        fail('ERR_SHAPE', where, 'dy', requirement, formatShape(dy.shape))
      }
      const rows = dy.reshape([indices.size, this.table.dim])
      const copy = rows.to('float32') // the caller may write to dy before the step reads it
      const entries = indices.reshape([indices.size, 1])
      const weights = constantTensor(where, this.#device, entries.shape, 1)
      native.tablePush(
        this.table.handle,
        entries.handle(where, 'tokens'),
        weights.handle(where, 'weights'),
        copy.handle(where, 'dy'),
      )
      for (const t of [rows, copy, entries, weights]) t.dispose()
    })
  }

  /** The rows, as a table. */
  parameters(): readonly Parameter[] {
    return [tableParameter('weight', this.table)]
  }

  /** The live rows under `weight`. */
  stateDict(): StateDict {
    return stateDictOf(this.parameters())
  }

  /** Copies `weight` in. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    loadStateDict('Embedding.loadStateDict', stateEntries(this.parameters()), state)
  }

  /** Frees the rows. */
  dispose(): void {
    this.table.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    return `Embedding ${formatShape(this.table.weight.shape)} on ${this.#device.name}`
  }

  // A copy of the caller's token numbers, which the step reads later.
  #copyTokens(where: string, tokens: Tensor): Tensor {
    checkTokenTensor(where, 'tokens', tokens, this.#device)
    return this.#device.empty(tokens.shape, 'int32').copyFrom(tokens)
  }

  #toIndices(where: string, tokens: Tensor | NumericData): Tensor {
    return toIndexTensor(where, tokens, this.table.slots, this.#device, 'tokens').tensor
  }
}
