// TensorFlow.js on its WebAssembly backend, which in Node has SIMD and one thread.

import type { Contender } from '../harness.js'
import { peerFolder, requirePeer } from '../peers/require.js'
import {
  type Backend,
  type BagProblem,
  type BagWeightsProblem,
  type GemmProblem,
  type LookupProblem,
  mostWorkOfSlow,
} from './backend.js'
import { tokensFirst, transposedKeys, transposedQueries } from './onnxruntime.js'

interface TfTensor {
  data(): Promise<ArrayLike<number>>
  dataSync(): ArrayLike<number>
  dispose(): void
}
export interface Tf {
  version_core: string
  setBackend(name: string): Promise<boolean>
  tidy<T>(f: () => T): T
  tensor(data: Float32Array | Int32Array, shape: number[], dtype?: string): TfTensor
  gather(x: TfTensor, indices: TfTensor): TfTensor
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor
  topk(x: TfTensor, k: number): { values: TfTensor; indices: TfTensor }
  split(x: TfTensor, parts: number, axis: number): TfTensor[]
  expandDims(x: TfTensor, axis: number): TfTensor
  add(a: TfTensor, b: TfTensor): TfTensor
  mul(a: TfTensor, b: TfTensor): TfTensor
  scalar(value: number, dtype: string): TfTensor
  softmax(x: TfTensor): TfTensor
  reshape(x: TfTensor, shape: number[]): TfTensor
}

const backendPackage = '@tensorflow/tfjs-backend-wasm'

export async function loadTf(): Promise<Tf | undefined> {
  const tf = requirePeer<Tf>('@tensorflow/tfjs-core')
  const wasm = requirePeer<{ setWasmPaths(path: string): void }>(backendPackage)
  if (!tf || !wasm) return undefined
  wasm.setWasmPaths(`${peerFolder(backendPackage)}dist/`)
  if (!(await tf.setBackend('wasm'))) throw new Error('tfjs: the wasm backend could not be set')
  return tf
}

export class TfJs implements Backend {
  readonly name = 'tfjs-wasm'
  readonly threads = 1
  readonly #tf: Tf
  #table: { key: string; tensor: TfTensor } | undefined

  constructor(tf: Tf) {
    this.#tf = tf
  }

  #tensor = (data: Float32Array | Int32Array, shape: number[], dtype = 'float32') =>
    this.#tf.tensor(data, shape, dtype)

  /** A contender of one output; the tensors of its inputs are disposed with it. */
  #contender(
    run: (set: number) => Record<string, TfTensor>,
    inputs: readonly TfTensor[],
  ): Contender {
    return {
      run: (set) => {
        for (const t of Object.values(this.#tf.tidy(() => run(set)))) t.dispose()
      },
      result: async () => {
        const outputs = this.#tf.tidy(() => run(0))
        const entries = await Promise.all(
          Object.entries(outputs).map(async ([name, t]) => [name, await t.data()] as const),
        )
        for (const t of Object.values(outputs)) t.dispose()
        return Object.fromEntries(entries)
      },
      release: () => {
        for (const t of inputs) t.dispose()
      },
    }
  }

  // A table beyond the memory of WebAssembly is refused by tfjs, and reported.
  #rows({ table, tokens, bag, sets }: BagProblem) {
    if (table.dtype !== 'float32' || tokens * bag * table.dim > mostWorkOfSlow / 16)
      return undefined
    if (this.#table?.key !== table.key) {
      this.forget()
      this.#table = {
        key: table.key,
        tensor: this.#tensor(table.data as Float32Array, [table.slots, table.dim]),
      }
    }
    return {
      table: this.#table.tensor,
      indices: sets.map((s) => this.#tensor(s.indices, [tokens, bag], 'int32')),
    }
  }

  async bag(problem: BagProblem): Promise<Contender | undefined> {
    const rows = this.#rows(problem)
    if (!rows) return undefined
    const weights = problem.sets.map((s) =>
      this.#tensor(s.weights, [problem.tokens, 1, problem.bag]),
    )
    const run = (set: number) => ({
      y: this.#tf.matMul(weights[set]!, this.#tf.gather(rows.table, rows.indices[set]!)),
    })
    return this.#contender(run, [...rows.indices, ...weights])
  }

  async bagWeights(problem: BagWeightsProblem): Promise<Contender | undefined> {
    const rows = this.#rows(problem)
    if (!rows) return undefined
    const dy = this.#tensor(problem.dy, [problem.tokens, problem.table.dim, 1])
    const run = (set: number) => ({
      dWeights: this.#tf.matMul(this.#tf.gather(rows.table, rows.indices[set]!), dy),
    })
    return this.#contender(run, [...rows.indices, dy])
  }

  async lookup({ shape, keys, queries }: LookupProblem): Promise<Contender | undefined> {
    const tf = this.#tf
    const { tokens: T, heads: H, knn: k, half: d, nKeys: n } = shape
    if (2 * T * H * n * d > mostWorkOfSlow) return undefined
    const keysT = this.#tensor(transposedKeys(keys, shape), [2 * H, d, n])
    const qs = queries.map((q) => this.#tensor(transposedQueries(q, shape), [2 * H, T, d]))
    // Gathering a slot by its rank among the pairs: the flat list of slots, and ranks offset by
    // row.
    const offsets = this.#tensor(
      Int32Array.from({ length: H * T * k }, (_, i) => Math.floor(i / k) * k * k),
      [H, T, k],
      'int32',
    )
    const count = this.#tf.scalar(n, 'int32')
    const run = (set: number) => {
      const { values, indices } = tf.topk(tf.matMul(qs[set]!, keysT), k)
      const [v1, v2] = tf.split(values, 2, 0) as [TfTensor, TfTensor]
      const [i1, i2] = tf.split(indices, 2, 0) as [TfTensor, TfTensor]
      const pairs = tf.reshape(tf.add(tf.expandDims(v1, 3), tf.expandDims(v2, 2)), [H, T, k * k])
      const slots = tf.reshape(tf.add(tf.expandDims(tf.mul(i1, count), 3), tf.expandDims(i2, 2)), [
        H * T * k * k,
      ])
      const best = tf.topk(pairs, k)
      return {
        indices: tf.gather(slots, tf.add(best.indices, offsets)),
        weights: tf.softmax(best.values),
      }
    }
    const contender = this.#contender(run, [keysT, offsets, count, ...qs])
    return {
      ...contender,
      result: async () => {
        const { indices, weights } = await contender.result()
        return { indices: tokensFirst(indices!, shape), weights: tokensFirst(weights!, shape) }
      },
    }
  }

  async gemm({
    shape: { rows, inner, columns },
    weight,
    inputs,
  }: GemmProblem): Promise<Contender | undefined> {
    if (rows * inner * columns > 2 * mostWorkOfSlow) return undefined
    const w = this.#tensor(weight, [columns, inner])
    const xs = inputs.map((x) => this.#tensor(x, [rows, inner]))
    return this.#contender((set) => ({ y: this.#tf.matMul(xs[set]!, w, false, true) }), [w, ...xs])
  }

  forget(): void {
    this.#table?.tensor.dispose()
    this.#table = undefined
  }
}
