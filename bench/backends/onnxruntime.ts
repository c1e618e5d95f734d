// onnxruntime-node. Its inputs have the layouts that its operators take, and the weights of a
// product are constants, which it packs ahead.

import type { Contender, Result } from '../harness.js'
import {
  type Constant,
  encodeModel,
  type Graph,
  type Node,
  type OnnxType,
  type Value,
} from '../peers/onnx.js'
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
interface Ort {
  Tensor: new (type: string, data: unknown, dims: readonly number[]) => OrtTensor
  InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> }
  env: { versions: { node?: string } }
}

export const loadOrt = () => requirePeer<Ort>('onnxruntime-node')

/** A node; names of inputs and outputs are separated by spaces. */
const node = (
  op: string,
  inputs: string,
  outputs: string,
  attributes: Readonly<Record<string, number>> = {},
): Node => ({ op, inputs: inputs.split(' '), outputs: outputs.split(' '), attributes })

const integers = (name: string, ...values: number[]): Constant => ({
  name,
  type: 'int64',
  shape: [values.length],
  data: BigInt64Array.from(values.map(BigInt)),
})

const floats = (name: string, ...shape: number[]): Value => ({ name, type: 'float32', shape })

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

  /** From a table and indices [T, L] to rows [T, L, D] in float32. */
  #rows({ table, tokens, bag, sets }: BagProblem) {
    if (table.dtype === 'bfloat16') return undefined
    const { slots, dim, dtype } = table
    const float32 = 1
    const read: Pick<Graph, 'inputs' | 'nodes'> = {
      inputs: [
        { name: 'table', type: dtype, shape: [slots, dim] },
        { name: 'indices', type: 'int32', shape: [tokens, bag] },
      ],
      nodes:
        dtype === 'float32'
          ? [node('Gather', 'table indices', 'rows')]
          : [
              node('Gather', 'table indices', 'narrow'),
              node('Cast', 'narrow', 'rows', { to: float32 }),
            ],
    }
    const data = this.#tensor(dtype, table.data, [slots, dim])
    const feeds = sets.map(({ indices }) => ({
      table: data,
      indices: this.#tensor('int32', indices, [tokens, bag]),
    }))
    return { read, feeds }
  }

  async bag(problem: BagProblem): Promise<Contender | undefined> {
    const rows = this.#rows(problem)
    if (!rows) return undefined
    const { tokens, bag, table, sets } = problem
    const { read } = rows
    const weights = floats('weights', tokens, 1, bag)
    const scales = table.scales && floats('scales', table.slots, 1)
    const graph: Graph = {
      inputs: [...read.inputs, weights, ...(scales ? [scales] : [])],
      outputs: [floats('y', tokens, 1, table.dim)],
      constants: scales ? [integers('flat', tokens, 1, bag)] : [],
      nodes: [
        ...read.nodes,
        ...(scales
          ? [
              node('Gather', 'scales indices', 'factors'),
              node('Reshape', 'factors flat', 'shaped'),
              node('Mul', 'weights shaped', 'scaled'),
            ]
          : []),
        node('MatMul', scales ? 'scaled rows' : 'weights rows', 'y'),
      ],
    }
    const scaleFeed = scales && { scales: this.#tensor('float32', table.scales, scales.shape) }
    const feeds = rows.feeds.map((feed, i) => ({
      ...feed,
      ...scaleFeed,
      weights: this.#tensor('float32', sets[i]!.weights, weights.shape),
    }))
    return this.#contender(graph, feeds, ({ y }) => ({ y: y!.data as ArrayLike<number> }))
  }

  async bagWeights(problem: BagWeightsProblem): Promise<Contender | undefined> {
    const rows = this.#rows(problem)
    if (!rows) return undefined
    const { tokens, bag, table, dy } = problem
    const graph: Graph = {
      inputs: [...rows.read.inputs, floats('dy', tokens, table.dim, 1)],
      outputs: [floats('dWeights', tokens, bag, 1)],
      constants: [],
      nodes: [...rows.read.nodes, node('MatMul', 'rows dy', 'dWeights')],
    }
    const gradient = this.#tensor('float32', dy, [tokens, table.dim, 1])
    const feeds = rows.feeds.map((feed) => ({ ...feed, dy: gradient }))
    return this.#contender(graph, feeds, ({ dWeights }) => ({
      dWeights: dWeights!.data as ArrayLike<number>,
    }))
  }

  async lookup({ shape, keys, queries }: LookupProblem): Promise<Contender> {
    const { tokens: T, heads: H, knn: k, half: d, nKeys: n } = shape
    const graph: Graph = {
      inputs: [floats('queries', 2 * H, T, d)],
      outputs: [{ name: 'indices', type: 'int64', shape: [H, T, k] }, floats('weights', H, T, k)],
      constants: [
        { ...floats('keys', 2 * H, d, n), data: transposedKeys(keys, shape) },
        integers('k', k),
        integers('n', n),
        integers('flat', H, T, k * k),
        integers('axis2', 2),
        integers('axis3', 3),
        integers('halves', H, H),
      ],
      nodes: [
        node('MatMul', 'queries keys', 'scores'),
        node('TopK', 'scores k', 'values ids', { axis: 2 }),
        node('Split', 'values halves', 'v1 v2', { axis: 0 }),
        node('Split', 'ids halves', 'i1 i2', { axis: 0 }),
        node('Unsqueeze', 'v1 axis3', 'v1column'),
        node('Unsqueeze', 'v2 axis2', 'v2row'),
        node('Add', 'v1column v2row', 'sums'),
        node('Reshape', 'sums flat', 'pairs'),
        node('TopK', 'pairs k', 'best rank', { axis: 2 }),
        node('Mul', 'i1 n', 'i1n'),
        node('Unsqueeze', 'i1n axis3', 'i1column'),
        node('Unsqueeze', 'i2 axis2', 'i2row'),
        node('Add', 'i1column i2row', 'names'),
        node('Reshape', 'names flat', 'slots'),
        node('GatherElements', 'slots rank', 'indices', { axis: 2 }),
        node('Softmax', 'best', 'weights', { axis: 2 }),
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

  async gemm(problem: GemmProblem): Promise<Contender | undefined> {
    if (problem.product !== 'y') return undefined
    const { shape, weight, inputs } = problem
    const { rows, inner, columns } = shape
    const graph: Graph = {
      inputs: [floats('x', rows, inner)],
      outputs: [floats('y', rows, columns)],
      constants: [{ ...floats('weight', columns, inner), data: weight }],
      nodes: [node('Gemm', 'x weight', 'y', { transB: 1 })],
    }
    const feeds = inputs.map((x) => ({ x: this.#tensor('float32', x, [rows, inner]) }))
    return this.#contender(graph, feeds, ({ y }) => ({ out: y!.data as ArrayLike<number> }))
  }
}

type Shape = LookupProblem['shape']

/** [H, 2, n, d] to [2 * H, d, n], half before head. */
function transposedKeys(keys: Float32Array, { heads, nKeys, half }: Shape): Float32Array {
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
function transposedQueries(query: Float32Array, { tokens, heads, half }: Shape): Float32Array {
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
function tokensFirst(values: ArrayLike<number>, { tokens, heads, knn }: Shape): Float64Array {
  const out = new Float64Array(values.length)
  for (let h = 0; h < heads; h++)
    for (let t = 0; t < tokens; t++)
      for (let r = 0; r < knn; r++)
        out[(t * heads + h) * knn + r] = values[(h * tokens + t) * knn + r]!
  return out
}
