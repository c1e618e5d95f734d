import { disposeOnError } from '../atomically.js'
import { checkDevice, type Device } from '../device.js'
import { encodeNumbers, isNumericData, type NumericData, readNumbers } from '../encode.js'
import { fail } from '../errors.js'
import { readText } from '../files/read.js'
import { checkPath } from '../files/system.js'
import { inspect } from '../inspect.js'
import { checkBoolean, checkInteger, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { World } from '../world.js'
import { shuffled } from './shuffle.js'
import { CharacterTokenizer, checkTokenizer, encodeText, type Tokenizer } from './tokenizer.js'

/** Options of {@link TextDataset}. */
export interface TextDatasetOptions {
  /** Where the batches are made. */
  device: Device
  /** Tokens in a window. */
  contextLength: number
  /** Windows in a batch. Default 1. */
  batchSize?: number
  /**
   * Of the text. Default: {@link CharacterTokenizer} of the text itself; for an array of tokens,
   * none.
   */
  tokenizer?: Tokenizer
  /** A new random order of the windows each epoch. Default true; false: from front to back. */
  shuffle?: boolean
  /** Of the order. Default 0. */
  seed?: number
  /** How often all windows are read. Default: without end. */
  epochs?: number
  /**
   * Each rank reads batches of its own: those of all ranks, one after the other, are the batches of
   * one dataset with `batchSize` times as many windows as there are ranks.
   */
  world?: World
}

/** A batch of windows; the next token of each is its target. */
export interface TokenBatch {
  /** `[batchSize, contextLength]` int32. */
  readonly tokens: Tensor<'int32'>
  /** `[batchSize, contextLength]` int32. */
  readonly targets: Tensor<'int32'>
  /** Frees both. */
  dispose(): void
  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void
}

const optionNames = [
  'device',
  'contextLength',
  'batchSize',
  'tokenizer',
  'shuffle',
  'seed',
  'epochs',
  'world',
]

/**
 * A text cut into windows of contextLength tokens, in batches of a random order. An iterator goes
 * on where the last one stopped: {@link TextDataset.position} says where that is, and the order
 * depends on seed and position alone, so a run can be resumed. Each batch is new; whoever takes it
 * disposes it, as `fit` does.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { TextDataset } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const data = new TextDataset('to be or not to be', { device, contextLength: 4, epochs: 1 })
 * for (const batch of data) {
 *   using _ = batch
 *   console.log(data.tokenizer?.decode(Array.from(await batch.tokens.data())))
 * }
 * ```
 */
export class TextDataset implements Iterable<TokenBatch> {
  /** Where the batches are made. */
  readonly device: Device
  /** All tokens of the text. */
  readonly tokens: Int32Array
  /** Of the text, if there was one. */
  readonly tokenizer: Tokenizer | undefined
  /** Windows in the text; what is left at its end is not read. */
  readonly windows: number
  /** Batches of this rank in all epochs; Infinity where there is no end. */
  readonly batches: number
  readonly #contextLength: number
  readonly #batchSize: number
  /** Of all ranks. */
  readonly #share: { rank: number; size: number }
  readonly #shuffle: boolean
  readonly #seed: number
  #position = 0

  /**
   * @param source a text, or its tokens
   * @throws ERR_VALUE, also for a text shorter than one window; ERR_OPTION, ERR_DEVICE
   */
  constructor(source: string | ArrayLike<number>, options: TextDatasetOptions) {
    const where = 'TextDataset'
    const checked = checkOptions(where, options, optionNames)
    const length = checkInteger(where, 'contextLength', checked.contextLength, 1, 2 ** 30)
    checkDevice(where, checked.device)
    this.device = checked.device
    this.#contextLength = length
    this.#batchSize = checkInteger(where, 'batchSize', checked.batchSize ?? 1, 1, 2 ** 30)
    this.#shuffle = checkBoolean(where, 'shuffle', checked.shuffle ?? true)
    this.#seed = checkInteger(where, 'seed', checked.seed ?? 0, 0)
    const epochs = checked.epochs === undefined ? Infinity : checkEpochs(where, checked.epochs)
    const { tokens, tokenizer } = tokenize(where, source, checked.tokenizer)
    this.tokens = tokens
    this.tokenizer = tokenizer
    this.windows = Math.floor((tokens.length - 1) / length)
    if (this.windows < 1) {
      const hint = `contextLength ${Math.max(1, tokens.length - 1)} would do.`
      const requirement = `have at least contextLength + 1 = ${length + 1} tokens`
      fail('ERR_VALUE', where, 'source', requirement, `${tokens.length}`, hint)
    }
    if (checked.world !== undefined && !World.is(checked.world))
      fail('ERR_VALUE', where, 'world', 'be a world of initDistributed', checked.world)
    const { rank, size } = checked.world ?? { rank: 0, size: 1 }
    this.#share = { rank, size }
    this.batches = Math.floor((epochs * this.windows) / (this.#batchSize * size))
    if (this.batches < 1) {
      const requirement = `be at most the ${epochs * this.windows} windows of all epochs`
      fail('ERR_VALUE', where, 'batchSize', requirement, this.#batchSize)
    }
  }

  /**
   * The text of a file, UTF-8.
   * @throws ERR_FILE_FORMAT where the file can't be read, with the system's error as `cause`;
   * ERR_VALUE for what is no path, or of no regular file; and as the constructor
   */
  static async load(path: string, options: TextDatasetOptions): Promise<TextDataset> {
    const where = 'TextDataset.load'
    return new TextDataset(await readText(where, checkPath(where, path)), options)
  }

  /** Batches taken so far; to be set for a run that is resumed. @throws ERR_VALUE */
  get position(): number {
    return this.#position
  }

  /** The next batch is the one after so many. */
  set position(value: number) {
    this.#position = checkInteger('TextDataset', 'position', value, 0)
  }

  /** Batches from {@link TextDataset.position} on; from the first one again after the last. */
  *[Symbol.iterator](): Generator<TokenBatch, undefined, undefined> {
    if (this.#position >= this.batches) this.#position = 0
    while (this.#position < this.batches) {
      const batch = this.#batch(this.#position)
      this.#position++
      yield batch
    }
  }

  #batch(index: number): TokenBatch {
    const length = this.#contextLength
    const shape = [this.#batchSize, length]
    const tokens = new Int32Array(this.#batchSize * length)
    const targets = new Int32Array(this.#batchSize * length)
    const { rank, size } = this.#share
    const first = (index * size + rank) * this.#batchSize
    for (let b = 0; b < this.#batchSize; b++) {
      const begin = this.#window(first + b) * length
      tokens.set(this.tokens.subarray(begin, begin + length), b * length)
      targets.set(this.tokens.subarray(begin + 1, begin + 1 + length), b * length)
    }
    const { device } = this
    return disposeOnError(
      () => new Batch(device.tensor(tokens, shape), device.tensor(targets, shape)),
    )
  }

  /** The window that is read as the `number`-th of all epochs. */
  #window(number: number): number {
    const epoch = Math.floor(number / this.windows)
    const index = number % this.windows
    return this.#shuffle ? shuffled(index, this.windows, this.#seed, epoch) : index
  }

  /** @internal */
  [inspect](): string {
    const size = `${this.tokens.length} tokens, ${this.windows} windows of ${this.#contextLength}`
    return `TextDataset of ${size}, batches of ${this.#batchSize}, at ${this.#position}`
  }
}

class Batch implements TokenBatch {
  readonly tokens: Tensor<'int32'>
  readonly targets: Tensor<'int32'>

  constructor(tokens: Tensor<'int32'>, targets: Tensor<'int32'>) {
    this.tokens = tokens
    this.targets = targets
  }

  dispose(): void {
    this.tokens.dispose()
    this.targets.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

function checkEpochs(where: string, epochs: unknown): number {
  return epochs === Infinity ? Infinity : checkInteger(where, 'epochs', epochs)
}

function tokenize(
  where: string,
  source: unknown,
  given: Tokenizer | undefined,
): { tokens: Int32Array; tokenizer: Tokenizer | undefined } {
  let tokenizer = given === undefined ? undefined : checkTokenizer(where, given)
  if (typeof source === 'string') {
    if (source === '') fail('ERR_VALUE', where, 'source', 'be a text that is not empty', source)
    tokenizer ??= new CharacterTokenizer(source)
    return { tokens: checkTokens(where, encodeText(where, tokenizer, source)), tokenizer }
  }
  if (!isNumericData(source))
    fail('ERR_VALUE', where, 'source', 'be a text or an array of tokens', source)
  return { tokens: checkTokens(where, source), tokenizer }
}

/** A copy as int32. */
function checkTokens(where: string, source: NumericData): Int32Array {
  const numbers = readNumbers(where, 'tokens', source)
  const { elements } = encodeNumbers(where, 'tokens', numbers, 'int32')
  const tokens = elements === source ? new Int32Array(elements) : (elements as Int32Array)
  const negative = tokens.findIndex((token) => token < 0)
  if (negative >= 0) {
    const requirement = 'be an integer from 0 to 2^31 - 1'
    fail('ERR_VALUE', where, `tokens[${negative}]`, requirement, tokens[negative])
  }
  return tokens
}
