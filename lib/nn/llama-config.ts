// config.json of a Llama checkpoint, as options of a Transformer and back.

import { describeValue, isObject, quotePath, shorten } from '../describe.js'
import { fail, isArray, MemoryLayersError } from '../errors.js'
import type { BlockConfig, FeedForwardSpec, MemoryPlacement } from './block-config.js'
import type { TransformerConfig, TransformerOptions } from './transformer-config.js'

/** The object in config.json. */
export type ConfigJson = Record<string, unknown>

/** What a field must be for the model to be computed rightly; others are refused by name. */
const required: Record<string, readonly unknown[]> = {
  hidden_act: ['silu'],
  attention_bias: [false],
  mlp_bias: [false],
  sliding_window: [null],
  quantization_config: [null],
  partial_rotary_factor: [1],
}

class Reader {
  readonly #where: string
  readonly #json: ConfigJson

  constructor(where: string, json: ConfigJson) {
    this.#where = where
    this.#json = json
  }

  /** A number, or the default where the field is left out. */
  number(name: string, standard?: number): number {
    const value = this.#json[name] ?? standard
    if (typeof value !== 'number' || !Number.isFinite(value))
      fail('ERR_FILE_FORMAT', this.#where, name, 'be a number in config.json', value)
    return value
  }

  boolean(name: string, standard: boolean): boolean {
    const value = this.#json[name] ?? standard
    if (typeof value !== 'boolean')
      fail('ERR_FILE_FORMAT', this.#where, name, 'be true or false in config.json', value)
    return value
  }

  /** Of `rope_parameters`, where newer files have theta, or of the field itself. */
  theta(): number {
    const theta = this.number('rope_theta', 10_000)
    const { rope_theta: newer } = this.#rope('rope_parameters')
    return new Reader(this.#where, { rope_theta: newer }).number('rope_theta', theta)
  }

  refuse(name: string, wanted: readonly unknown[], found: unknown): never {
    const list = wanted.map((value) => JSON.stringify(value)).join(' or ')
    const hint = 'The model would not compute what its files say.'
    fail(
      'ERR_UNSUPPORTED',
      this.#where,
      name,
      `be ${list} in config.json`,
      describeValue(found),
      hint,
    )
  }

  check(): void {
    const { model_type: type } = this.#json
    if (type !== 'llama') this.refuse('model_type', ['llama'], type)
    for (const [name, values] of Object.entries(required)) {
      const value = this.#json[name]
      if (value === undefined || (value === null && !values.includes(null))) continue
      if (!values.includes(value)) this.refuse(name, values, value)
    }
    this.#checkRope()
  }

  /** Positions that are scaled, as older files say it and as newer ones do. */
  #checkRope(): void {
    const scaling = this.#json['rope_scaling'] ?? undefined
    const { rope_type: type, type: olderType } = Object(scaling) as ConfigJson
    if (scaling !== undefined && (type ?? olderType) !== 'default')
      this.refuse('rope_scaling', [null], scaling)
    const { rope_type: newerType = 'default' } = this.#rope('rope_parameters')
    if (newerType !== 'default') this.refuse('rope_parameters.rope_type', ['default'], newerType)
  }

  /** A field that is an object, or none. */
  #rope(name: string): ConfigJson {
    const value = this.#json[name] ?? {}
    if (!isObject(value)) fail('ERR_FILE_FORMAT', this.#where, name, 'be an object', value)
    return value as ConfigJson
  }
}

/**
 * The options of the model that config.json describes.
 * @throws ERR_UNSUPPORTED for what the model would compute wrongly; ERR_FILE_FORMAT
 */
export function optionsOfConfig(where: string, json: ConfigJson): TransformerOptions {
  const reader = new Reader(where, json)
  reader.check()
  const heads = reader.number('num_attention_heads')
  const dim = reader.number('hidden_size')
  const headDim = reader.number('head_dim', dim / heads)
  const hiddenDim = reader.number('intermediate_size')
  const specs = json['feed_forward']
  if (specs !== undefined && !isArray(specs))
    fail('ERR_FILE_FORMAT', where, 'feed_forward', 'be an array in config.json', specs)
  const memory = (json['memory_layers'] ?? undefined) as MemoryPlacement | undefined
  return {
    vocabSize: reader.number('vocab_size'),
    dim,
    layers: reader.number('num_hidden_layers'),
    heads,
    kvHeads: reader.number('num_key_value_heads', heads),
    headDim,
    feedForward: (layer) =>
      (specs?.[layer] as FeedForwardSpec | null | undefined) ?? { kind: 'swiglu', hiddenDim },
    ...(memory !== undefined && { memory }),
    contextLength: reader.number('max_position_embeddings', 2048),
    rope: json['rope_theta'] === false ? false : { theta: reader.theta() },
    normEps: reader.number('rms_norm_eps', 1e-6),
    tieEmbeddings: reader.boolean('tie_word_embeddings', false),
  }
}

/**
 * config.json of a model. `loaded` is that of the files it came from, whose other fields stay.
 */
export function configOfModel(
  config: TransformerConfig,
  dtype: string,
  loaded: ConfigJson = {},
): ConfigJson {
  const { blocks } = config
  const widths = blocks.map(({ feedForward: f }) => (f.kind === 'swiglu' ? f.hiddenDim : undefined))
  const hiddenDim = widths.find((width) => width !== undefined) ?? 4 * config.dim
  const { specs, memory } = describeBlocks(blocks)
  const isPlain = specs.every((s) => !s || (s.kind === 'swiglu' && s.hiddenDim === hiddenDim))
  const { memory_layers: _, feed_forward: __, rope_parameters: rope, ...others } = loaded
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    torch_dtype: dtype,
    ...others,
    hidden_size: config.dim,
    intermediate_size: hiddenDim,
    num_hidden_layers: blocks.length,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    rope_theta: config.rope ? config.rope.theta : false,
    ...(isObject(rope) && { rope_parameters: rope }),
    rms_norm_eps: config.normEps,
    max_position_embeddings: config.contextLength,
    tie_word_embeddings: config.tieEmbeddings,
    ...(memory && { memory_layers: memory }),
    ...(!isPlain && { feed_forward: specs }),
  }
}

interface Blocks {
  /** null where memory stands in place of the feed-forward. */
  specs: (FeedForwardSpec | null)[]
  memory: MemoryPlacement | undefined
}

/**
 * As options. A placement has one kind of memory: the shared one, or one that stands beside
 * feed-forwards, or the first; all other memory is of single layers.
 */
function describeBlocks(blocks: readonly BlockConfig[]): Blocks {
  const stands = ({ feedForward }: BlockConfig) => feedForward.kind !== 'none'
  const chosen =
    blocks.find(({ memory }) => memory?.shared) ??
    blocks.find((block) => block.memory && stands(block)) ??
    blocks.find(({ memory }) => memory)
  if (!chosen?.memory) return { specs: blocks.map((b) => b.feedForward), memory: undefined }
  const kind = JSON.stringify(chosen.memory)
  const isPlaced = ({ memory }: BlockConfig) => JSON.stringify(memory) === kind
  const layers = [...blocks.keys()].filter((layer) => isPlaced(blocks[layer]!))
  const beside = blocks.some((block) => isPlaced(block) && stands(block))
  const specs = blocks.map((block): FeedForwardSpec | null => {
    const { feedForward, memory } = block
    if (!memory) return feedForward
    if (isPlaced(block)) return beside ? feedForward : null
    const { shared, ...spec } = memory
    return { kind: 'memory', ...spec }
  })
  return { specs, memory: { layers, ...chosen.memory, beside } }
}

/** @throws ERR_FILE_FORMAT for what is no JSON object */
export function parseConfig(where: string, path: string, text: string): ConfigJson {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    const message = `${where}: ${quotePath(path)} is not JSON: ${(cause as Error).message}.`
    throw new MemoryLayersError('ERR_FILE_FORMAT', message)
  }
  if (typeof json !== 'object' || json === null || isArray(json))
    fail('ERR_FILE_FORMAT', where, shorten(path), 'hold an object', json)
  return json as ConfigJson
}
