// onnxruntime-node. Its inputs are laid out as its operators like them, and the weights of a
// product are constants, which it packs ahead.

import type { Contender, Result } from '../harness.js'
import { encodeModel, type Graph, type OnnxType } from '../peers/onnx.js'
import { requirePeer } from '../peers/require.js'
import type {
  Backend,
  BagProblem,
  BagWeightsProblem,
  GemmProblem,
  LookupProblem,
} from './backend.js'

interface OrtTensor {
  data: ArrayLike<number> | BigInt64Array
}
interface Session {
  run(feeds: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>
  release(): Promise<void>
}
export interface Ort {
  Tensor: new (type: string, data: unknown, dims: readonly number[]) => OrtTensor
  InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> }
  env: { versions: { node?: string } }
}

export const loadOrt = () => requirePeer<Ort>('onnxruntime-node')

const ids = (...names: string[]) => names

export class OnnxRuntime implements Backend {
  readonly name = 'onnxruntime-node'
  readonly threads: number
  // Its threads spin for about 20 ms after their work.
  readonly settle: number
  readonly #ort: Ort

  constructor(threads: number, ort: Ort) {
    this.threads = threads
    this.settle = threads > 1 ? 25 : 0
    this.#ort = ort
  }

  #tensor(type: OnnxType, data: unknown, shape: readonly number[]): OrtTensor {
    return new this.#ort.Tensor(type, data, shape)
  }

  async #contender(
    graph: Graph,
    feeds: readonly Record<string, OrtTensor>[],
    result: (outputs: Record<string, OrtTensor>) => Result,
  ) {
    const session = await this.#ort.InferenceSession.create(encodeModel(graph), {
      intraOpNumThreads: this.threads,
      interOpNumThreads: 1,
      logSeverityLevel: 3,
    })
    const contender: Contender = {
      run: (set) => session.run(feeds[set]!),
      result: async () => result(await session.run(feeds[0]!)),
      release: () => session.release(),
    }
    return contender
  }

  /**
   * Nodes from a table and its indices [T, L] to rows [T, L, D] in float32 and weights [T, 1, L].
   */
  #rows({ table, tokens, bag, sets }: BagProblem) {
    if (table.dtype === 'bfloat16') return undefined
    const { slots, dim, scales } = table
    const read: Graph = {
      inputs: [
        { name: 'table', type: table.dtype, shape: [slots, dim] },
        { name: 'indices', type: 'int32', shape: [tokens, bag] },
      ],
      outputs: [],
      constants: [],
      nodes: [
        {
          op: 'Gather',
          inputs: ids('table', 'indices'),
          outputs: ids(table.dtype === 'float32' ? 'rows' : 'narrow'),
        },
        ...(table.dtype === 'float32'
          ? []
          : [{ op: 'Cast', inputs: ids('narrow'), outputs: ids('rows'), attributes: { to: 1 } }]),
      ],
    }
    const data = this.#tensor(table.dtype, table.data, [slots, dim])
    const feeds = sets.map(({ indices }) => ({
      table: data,
      indices: this.#tensor('int32', indices, [tokens, bag]),
    }))
    return { read, feeds, scales: scales && this.#tensor('float32', scales, [slots]) }
  }

  async bag(problem: BagProblem): Promise<Contender | undefined> {
    const rows = this.#rows(problem)
    if (!rows) return undefined
    const { tokens, bag, table, sets } = problem
    const { read, scales } = rows
    const graph: Graph = {
      inputs: [
        ...read.inputs,
        { name: 'weights', type: 'float32', shape: [tokens, 1, bag] },
        ...(scales ? [{ name: 'scales', type: 'float32' as const, shape: [table.slots, 1] }] : []),
      ],
      outputs: [{ name: 'y', type: 'float32', shape: [tokens, 1, table.dim] }],
      constants: scales
        ? [
            {
              name: 'flat',
              type: 'int64',
              shape: [3],
              data: BigInt64Array.from([tokens, 1, bag].map(BigInt)),
            },
          ]
        : [],
      nodes: [
        ...read.nodes,
        ...(scales
          ? [
              { op: 'Gather', inputs: ids('scales', 'indices'), outputs: ids('factors') },
              { op: 'Reshape', inputs: ids('factors', 'flat'), outputs: ids('shaped') },
              { op: 'Mul', inputs: ids('weights', 'shaped'), outputs: ids('scaled') },
            ]
          : []),
        { op: 'MatMul', inputs: ids(scales ? 'scaled' : 'weights', 'rows'), outputs: ids('y') },
      ],
    }
    const feeds = rows.feeds.map((feed, i) => ({
      ...feed,
      weights: this.#tensor('float32', sets[i]!.weights, [tokens, 1, bag]),
      ...(scales && { scales: this.#tensor('float32', table.scales, [table.slots, 1]) }),
    }))
    return this.#contender(graph, feeds, ({ y }) => ({ y: y!.data as ArrayLike<number> }))
  }

  async bagWeights(problem: BagWeightsProblem): Promise<Contender | undefined> {
    const rows = this.#rows(problem)
    if (!rows) return undefined
    const { tokens, bag, table, dy } = problem
    const graph: Graph = {
      inputs: [...rows.read.inputs, { name: 'dy', type: 'float32', shape: [tokens, table.dim, 1] }],
      outputs: [{ name: 'dWeights', type: 'float32', shape: [tokens, bag, 1] }],
      constants: [],
      nodes: [
        ...rows.read.nodes,
        { op: 'MatMul', inputs: ids('rows', 'dy'), outputs: ids('dWeights') },
      ],
    }
    const gradient = this.#tensor('float32', dy, [tokens, table.dim, 1])
    return this.#contender(
      graph,
      rows.feeds.map((feed) => ({ ...feed, dy: gradient })),
      ({ dWeights }) => ({
        dWeights: dWeights!.data as ArrayLike<number>,
      }),
    )
  }

  async lookup({ shape, keys, queries }: LookupProblem): Promise<Contender> {
    const { tokens: T, heads: H, knn: k, half: d, nKeys: n } = shape
    const integers = (name: string, ...values: number[]) => ({
      name,
      type: 'int64' as const,
      shape: [values.length],
      data: BigInt64Array.from(values.map(BigInt)),
    })
    const graph: Graph = {
      inputs: [{ name: 'queries', type: 'float32', shape: [2 * H, T, d] }],
      outputs: [
        { name: 'indices', type: 'int64', shape: [H, T, k] },
        { name: 'weights', type: 'float32', shape: [H, T, k] },
      ],
      constants: [
        { name: 'keys', type: 'float32', shape: [2 * H, d, n], data: transposedKeys(keys, shape) },
        integers('k', k),
        integers('n', n),
        integers('flat', H, T, k * k),
        integers('third', 3),
        integers('second', 2),
        integers('halves', H, H),
      ],
      nodes: [
        { op: 'MatMul', inputs: ids('queries', 'keys'), outputs: ids('scores') },
        {
          op: 'TopK',
          inputs: ids('scores', 'k'),
          outputs: ids('values', 'places'),
          attributes: { axis: 2 },
        },
        {
          op: 'Split',
          inputs: ids('values', 'halves'),
          outputs: ids('v1', 'v2'),
          attributes: { axis: 0 },
        },
        {
          op: 'Split',
          inputs: ids('places', 'halves'),
          outputs: ids('i1', 'i2'),
          attributes: { axis: 0 },
        },
        { op: 'Unsqueeze', inputs: ids('v1', 'third'), outputs: ids('v1c') },
        { op: 'Unsqueeze', inputs: ids('v2', 'second'), outputs: ids('v2r') },
        { op: 'Add', inputs: ids('v1c', 'v2r'), outputs: ids('sums') },
        { op: 'Reshape', inputs: ids('sums', 'flat'), outputs: ids('pairs') },
        {
          op: 'TopK',
          inputs: ids('pairs', 'k'),
          outputs: ids('best', 'at'),
          attributes: { axis: 2 },
        },
        { op: 'Mul', inputs: ids('i1', 'n'), outputs: ids('i1n') },
        { op: 'Unsqueeze', inputs: ids('i1n', 'third'), outputs: ids('i1c') },
        { op: 'Unsqueeze', inputs: ids('i2', 'second'), outputs: ids('i2r') },
        { op: 'Add', inputs: ids('i1c', 'i2r'), outputs: ids('names') },
        { op: 'Reshape', inputs: ids('names', 'flat'), outputs: ids('slots') },
        {
          op: 'GatherElements',
          inputs: ids('slots', 'at'),
          outputs: ids('indices'),
          attributes: { axis: 2 },
        },
        { op: 'Softmax', inputs: ids('best'), outputs: ids('weights'), attributes: { axis: 2 } },
      ],
    }
    const feeds = queries.map((q) => ({
      queries: this.#tensor('float32', transposedQueries(q, shape), [2 * H, T, d]),
    }))
    return this.#contender(graph, feeds, ({ indices, weights }) => ({
      indices: tokensFirst(Array.from(indices!.data as BigInt64Array, Number), shape),
      weights: tokensFirst(weights!.data as ArrayLike<number>, shape),
    }))
  }

  async gemm({ shape: { rows, inner, columns }, weight, inputs }: GemmProblem): Promise<Contender> {
    const graph: Graph = {
      inputs: [{ name: 'x', type: 'float32', shape: [rows, inner] }],
      outputs: [{ name: 'y', type: 'float32', shape: [rows, columns] }],
      constants: [{ name: 'weight', type: 'float32', shape: [columns, inner], data: weight }],
      nodes: [
        { op: 'Gemm', inputs: ids('x', 'weight'), outputs: ids('y'), attributes: { transB: 1 } },
      ],
    }
    const feeds = inputs.map((x) => ({ x: this.#tensor('float32', x, [rows, inner]) }))
    return this.#contender(graph, feeds, ({ y }) => ({ y: y!.data as ArrayLike<number> }))
  }
}

type Shape = LookupProblem['shape']

/** [H, 2, n, d] to [2 * H, d, n], half before head. */
export function transposedKeys(keys: Float32Array, { heads, nKeys, half }: Shape): Float32Array {
  const out = new Float32Array(keys.length)
  for (let h = 0; h < heads; h++)
    for (let p = 0; p < 2; p++)
      for (let j = 0; j < nKeys; j++)
        for (let c = 0; c < half; c++)
          out[((p * heads + h) * half + c) * nKeys + j] =
            keys[((h * 2 + p) * nKeys + j) * half + c]!
  return out
}

/** [T, H, 2, d] to [2 * H, T, d]. */
export function transposedQueries(
  query: Float32Array,
  { tokens, heads, half }: Shape,
): Float32Array {
  const out = new Float32Array(query.length)
  for (let t = 0; t < tokens; t++)
    for (let h = 0; h < heads; h++)
      for (let p = 0; p < 2; p++) {
        const from = ((t * heads + h) * 2 + p) * half
        out.set(query.subarray(from, from + half), ((p * heads + h) * tokens + t) * half)
      }
  return out
}

/** [H, T, k] to [T, H, k]. */
export function tokensFirst(
  values: ArrayLike<number>,
  { tokens, heads, knn }: Shape,
): Float64Array {
  const out = new Float64Array(values.length)
  for (let h = 0; h < heads; h++)
    for (let t = 0; t < tokens; t++)
      for (let r = 0; r < knn; r++)
        out[(t * heads + h) * knn + r] = values[(h * tokens + t) * knn + r]!
  return out
}
