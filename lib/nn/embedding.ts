import { native } from '../binding.js'
import { type Device, expectDevice } from '../device.js'
import { fail } from '../errors.js'
import * as ops from '../ops.js'
import { integer, options } from '../options.js'
import {
  loadInto,
  type Parameter,
  type StateDict,
  stateDictOf,
  tableParameter,
} from '../parameter.js'
import { handles, Tensor, text } from '../tensor.js'
import { ValueTable } from '../value-table.js'
import { Saved } from './module.js'

/** Options of {@link Embedding}. */
export interface EmbeddingOptions {
  /** Rows: the size of the vocabulary. */
  count: number
  /** Width of a row. */
  dim: number
  /** Of the initial rows, N(0, 1). Default 0. */
  seed?: number
}

/** @internal */
export type Tokens = { indices: Tensor; weights: Tensor }

/**
 * An embedding of token numbers. Its rows are a {@link ValueTable}: the gradient is sparse, and a
 * step touches the rows that were read.
 */
export class Embedding {
  /** The rows, `[count, dim]`. */
  readonly table: ValueTable
  readonly #device: Device

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, given: EmbeddingOptions) {
    const where = 'Embedding'
    expectDevice(where, device)
    const o = options(where, given, ['count', 'dim', 'seed'])
    const seed = integer(where, 'seed', o.seed ?? 0, 0)
    this.#device = device
    this.table = new ValueTable(device, {
      slots: integer(where, 'count', o.count),
      dim: integer(where, 'dim', o.dim),
      init: { std: 1, seed },
    })
  }

  /**
   * @param tokens `[T]` or `[batch, time]` int32, or numbers `[T]`; -1 gives zeros
   * @returns the rows `[..., dim]`, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the call for numbers, at the next wait for
   * tensors
   */
  forward(tokens: Tensor | Int32Array | readonly number[]): {
    output: Tensor
    context: Saved<Tokens>
  } {
    const where = 'Embedding.forward'
    const shape = tokens instanceof Tensor ? tokens.shape : [tokens.length]
    if (shape.length !== 1 && shape.length !== 2)
      fail('ERR_SHAPE', where, 'tokens', 'have shape [tokens] or [batch, time]', text(shape))
    const count = shape.reduce((a, b) => a * b, 1)
    const weights = this.#device.tensor(new Float32Array(count).fill(1), [count, 1])
    const indices =
      tokens instanceof Tensor
        ? this.#own(where, tokens, count)
        : this.#device.tensor(checked(where, tokens, this.table.slots), [count, 1], 'int32')
    const rows = ops.embeddingBag(this.table.weight, indices, weights)
    const output = rows.reshape([...shape, this.table.dim])
    rows.dispose()
    return { output, context: new Saved(this, { indices, weights }) }
  }

  /** The rows alone. Arguments and errors as {@link Embedding.forward}. */
  infer(tokens: Tensor | Int32Array | readonly number[]): Tensor {
    const { output, context } = this.forward(tokens)
    context.dispose()
    return output
  }

  /**
   * Queues the read at the table and spends the context; there is no gradient of token numbers.
   * @param dy gradient of the output, in its shape
   * @throws ERR_CONTEXT, ERR_SHAPE, ERR_DTYPE
   */
  backward(context: Saved<Tokens>, dy: Tensor): void {
    const where = 'Embedding.backward'
    const { indices, weights } = context.peek(where, this)
    handles(where, { dy }, this.#device)
    if (dy.size !== indices.size * this.table.dim)
      fail(
        'ERR_SHAPE',
        where,
        'dy',
        `have ${indices.size} rows of ${this.table.dim}, as the output has`,
        text(dy.shape),
      )
    const rows = dy.reshape([indices.size, this.table.dim])
    const own = rows.to('float32') // the caller may write to dy before the step reads it
    native.tablePush(
      this.table.handle,
      indices.handle(where, 'tokens'),
      weights.handle(where, 'weights'),
      own.handle(where, 'dy'),
    )
    for (const t of [rows, own]) t.dispose()
    context.dispose()
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
    loadInto('Embedding.loadStateDict', this.parameters(), state)
  }

  /** Gives the rows back. */
  dispose(): void {
    this.table.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  // A copy of the caller's token numbers, which the step reads later.
  #own(where: string, tokens: Tensor, count: number): Tensor {
    handles(where, { tokens }, this.#device)
    if (tokens.dtype !== 'int32') fail('ERR_DTYPE', where, 'tokens', 'be int32', tokens.dtype)
    const flat = tokens.reshape([count, 1])
    const copy = this.#device.empty([count, 1], 'int32').copyFrom(flat)
    flat.dispose()
    return copy
  }
}

function checked(
  where: string,
  tokens: Int32Array | readonly number[],
  count: number,
): Int32Array | readonly number[] {
  for (const [i, token] of tokens.entries()) {
    if (!Number.isInteger(token) || token < -1 || token >= count)
      fail(
        'ERR_INDEX_RANGE',
        where,
        `tokens[${i}]`,
        `be in [0, ${count})`,
        token,
        '-1 marks a place without a token.',
      )
  }
  return tokens
}
