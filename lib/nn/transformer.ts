import { disposeOnError } from '../atomically.js'
import { tidy } from '../autograd/tidy.js'
import { checkCompute } from '../compute.js'
import { isObject } from '../describe.js'
import type { Device } from '../device.js'
import { fail } from '../errors.js'
import { checkIgnoreIndex } from '../ops/target-weights.js'
import * as ops from '../ops.js'
import { checkInteger, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { World } from '../world.js'
import { Linear } from './linear.js'
import { LlamaModule } from './llama-module.js'
import { MaskCounter } from './mask-counter.js'
import type { GenerateOptions } from './sampling.js'
import { type TokenBatch, type TokenLimits, type Tokens, toTargets, toTokens } from './tokens.js'
import { Decoder } from './transformer-block.js'
import type { Pass } from './transformer-cache.js'
import {
  checkTransformerOptions,
  type TransformerConfig,
  type TransformerOptions,
  transformerOptionNames,
} from './transformer-config.js'
import {
  type LoadTransformerOptions,
  loadTransformer,
  saveTransformer,
} from './transformer-files.js'
import { type Generator, generate, type Prompt } from './transformer-generate.js'
import { headLoss } from './transformer-loss.js'

/** Dropout's numbers of steps, two for each pass, are integers. */
const maxPosition = 2 ** 51

/** How a {@link Transformer} is divided among ranks. */
export interface WorldOptions {
  /**
   * Of `initDistributed`: divides the columns of memory and PEER tables among its ranks, all of
   * which make the model with the same options. `fit` with the same `world` trains it.
   */
  world?: World
}

function splitWorld(options: TransformerOptions & WorldOptions) {
  if (!isObject(options)) return { world: undefined, sizes: options }
  const names = [...transformerOptionNames, 'world']
  const { world, ...sizes } = checkOptions('Transformer', options, names)
  if (world !== undefined && !World.is(world))
    fail('ERR_VALUE', 'Transformer', 'world', 'be a world of initDistributed', world)
  return { world, sizes }
}

/** Options of {@link Transformer.loss}. */
export interface LossOptions {
  /** Targets that don't count, beside -1. Default -100. */
  ignoreIndex?: number
}

/**
 * A decoder of the Llama architecture (Touvron et al. 2023), pre-norm: embedding, layers of
 * rotary attention and a feed-forward each, norm, head. In place of feed-forwards, or beside them,
 * stand memory layers, PEER layers or mixtures of experts. Its parameters have the names of Hugging
 * Face's Llama; memory layers lie under `model.layers.<n>.memory`.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { TextDataset, Transformer } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const data = new TextDataset('to be or not to be, that is', { device, contextLength: 8 })
 * const model = new Transformer(device, {
 *   vocabSize: 97, dim: 128, layers: 3, heads: 4, contextLength: 128,
 *   memory: { layers: [1], nKeys: 64, heads: 4, knn: 16, keyDim: 128 },
 * })
 * for (const { tokens, targets } of data) {
 *   const loss = model.loss(tokens, targets)
 *   loss.backward()
 *   break
 * }
 * for await (const token of model.generate([5, 3], { maxTokens: 10 })) console.log(token)
 * ```
 */
export class Transformer extends LlamaModule {
  /** What it is made of, with the defaults. */
  readonly config: TransformerConfig
  /** @internal Up to the head. */
  readonly model: Decoder
  /** @internal */
  readonly lmHead: Linear
  readonly #limits: TokenLimits
  /** Of dropout's masks; 0 without dropout. */
  seed: number
  readonly #passes: MaskCounter

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE, ERR_UNSUPPORTED, ERR_OUT_OF_MEMORY */
  constructor(device: Device, options: TransformerOptions & WorldOptions) {
    super(device)
    const { world, sizes } = splitWorld(options)
    const config = checkTransformerOptions('Transformer', sizes)
    checkCompute('Transformer', device, config.compute)
    const { vocabSize, dim, contextLength, tieEmbeddings, compute, dropout } = config
    const { model, head, seed } = disposeOnError(() =>
      device.seeds.within(config.seed, () => {
        const model = new Decoder(device, config, world)
        const head = { inputDim: dim, outputDim: vocabSize, bias: false, compute }
        const weight = tieEmbeddings ? { weight: model.embedTokens.table } : {}
        const lmHead = new Linear(device, { ...head, ...weight })
        return { model, head: lmHead, seed: dropout > 0 ? device.seeds.next() : 0 }
      }),
    )
    this.config = config
    this.model = model
    this.lmHead = head
    this.seed = seed
    this.#passes = new MaskCounter(this, 2 * config.blocks.length)
    this.#limits = { device, vocabSize, contextLength }
  }

  /**
   * Passes in training so far: dropout's masks follow from it and {@link Transformer.seed}, so that
   * a run which is resumed with both goes on as it was.
   * @throws ERR_VALUE
   */
  get position(): number {
    return this.#passes.value
  }

  /** The next pass is the one after so many. */
  set position(value: number) {
    const passes = checkInteger('Transformer', 'position', value, 0, maxPosition)
    this.#passes.set('Transformer.position', passes)
  }

  /**
   * A model from a folder as Hugging Face lays it out: `config.json` with `model_type` llama, and
   * `model.safetensors` or the index of several files, in float32, bfloat16 or float16.
   * @throws ERR_UNSUPPORTED for what it would compute wrongly (another model_type, rope_scaling,
   * biases), by name; ERR_FILE_FORMAT, ERR_STATE_DICT, ERR_OPTION, ERR_VALUE, ERR_OUT_OF_MEMORY
   */
  static load(folder: string, options: LoadTransformerOptions): Promise<Transformer> {
    return loadTransformer(folder, options, (device, config) => new Transformer(device, config))
  }

  /**
   * Writes `config.json` and `model.safetensors` into a folder, which is made if it is not there.
   * The tensors are in the dtype of the files that the model was loaded from.
   * @throws ERR_VALUE, ERR_FILE_FORMAT, ERR_DISPOSED
   */
  save(folder: string): Promise<void> {
    return saveTransformer(folder, this)
  }

  /**
   * @param tokens int32 `[time]` or `[batch, time]`, or numbers of one sequence; -1 is padding
   * @returns logits `[time, vocabSize]` or `[batch, time, vocabSize]` float32
   * @throws ERR_SHAPE, ERR_DTYPE; ERR_VALUE for more than contextLength tokens; ERR_INDEX_RANGE at
   * the call for numbers, at the next wait for tensors
   */
  apply(tokens: Tokens): Tensor<'float32'> {
    return tidy(() => {
      const batch = toTokens('Transformer.apply', tokens, this.#limits)
      return this.#pass(batch, (pass) => {
        const logits = this.lmHead.apply(this.#run(batch, pass))
        return logits.reshape([...batch.shape, this.config.vocabSize])
      })
    }) as Tensor<'float32'>
  }

  /**
   * Mean cross-entropy over the targets that count; in training the load-balancing losses of
   * experts are added. Logits are made for some tokens at a time, never for all.
   * @param tokens as of {@link Transformer.apply}
   * @param targets int32, in the shape of the tokens: the token that follows each; -1 and
   * `ignoreIndex` don't count
   * @returns `[1]` float32
   * @throws as `apply`; ERR_VALUE for targets that are all ignored, at the next wait for tensors
   */
  loss(tokens: Tokens, targets: Tokens, options?: LossOptions): Tensor<'float32'> {
    const where = 'Transformer.loss'
    const checked = checkOptions(where, options, ['ignoreIndex'])
    const ignoreIndex = checkIgnoreIndex(where, checked.ignoreIndex)
    return tidy(() => {
      const batch = toTokens(where, tokens, this.#limits)
      const flat = toTargets(where, targets, batch, this.#limits, ignoreIndex)
      const { kept, weights } = ops.targetWeights(flat, { ignoreIndex })
      return this.#pass(batch, (pass) => {
        const rows = this.#run(batch, pass)
        const loss = headLoss(rows, this.lmHead.weight, kept, weights, this.config.compute)
        const extra = this.training ? pass.losses : []
        return extra.reduce((sum, balance) => ops.add(sum, balance), loss)
      })
    }) as Tensor<'float32'>
  }

  /**
   * Continues a prompt token by token, with a cache of keys and values; without dropout. Of several
   * prompts, of any lengths, each step yields an array: the next token of each, -1 for those that
   * came to their end. Leaving the loop frees the cache.
   * @throws ERR_DTYPE, ERR_INDEX_RANGE, ERR_OPTION, and ERR_VALUE for a prompt without tokens, or
   * more tokens than contextLength
   */
  generate(prompt: Prompt, options?: GenerateOptions): AsyncGenerator<number, void, undefined>
  generate(
    prompts: readonly Prompt[],
    options?: GenerateOptions,
  ): AsyncGenerator<number[], void, undefined>
  generate(
    prompt: Prompt | readonly Prompt[],
    options?: GenerateOptions,
  ): AsyncGenerator<number | number[], void, undefined> {
    return generate(this.#generator(), prompt, options)
  }

  /** Runs `body` on a new pass; one in training counts once it has succeeded. */
  #pass<T>({ tensor }: TokenBatch, body: (pass: Pass) => T): T {
    const dropout = this.training ? this.#passes.pass() : undefined
    const passes = this.#passes.value
    const result = body({ batch: tensor.shape[0]!, dropout, losses: [] })
    if (dropout) this.#passes.value = passes + 1
    return result
  }

  /** `[batch * time, dim]` */
  #run({ tensor }: TokenBatch, pass: Pass): Tensor {
    return this.model.run(tensor.reshape([tensor.size]), pass)
  }

  #generator(): Generator {
    const { blocks, kvHeads, headDim } = this.config
    return {
      limits: this.#limits,
      layers: blocks.length,
      kvHeads,
      headDim,
      causal: blocks.every(
        ({ feedForward }) => feedForward.kind !== 'moe' || feedForward.routing === 'token',
      ),
      run: (tokens, pass) => this.model.run(tokens, pass),
      head: (rows) => this.lmHead.apply(rows),
    }
  }
}
