// Training steps of small decoders, beside PyTorch and beside their products alone.

import { AdamW, clipGradNorm, type Tensor } from '../../lib/index.js'
import { Transformer } from '../../lib/nn/index.js'
import { type Backend, lr, type StepProblem } from '../backends/backend.js'
import type { Ours } from '../backends/ours.js'
import { expectNear } from '../check.js'
import { uniform } from '../data.js'
import { type Contender, median, ratioOf, type Timing } from '../harness.js'
import type { GemmShape, GptShape, Shapes } from '../shapes.js'
import { type Case, compare, type Environment } from './case.js'

const inputSets = 4
const threadsText = (threads: number) => (threads === 1 ? 'one thread' : 'all threads')
const products = /^linear/
const attention = /^attention/

/** Made of no random numbers, so that every contender can have it. */
export function transformer({ device }: Ours, shape: GptShape, memory = shape.memory): Transformer {
  const { batch: _, time: contextLength, memory: __, ...sizes } = shape
  return new Transformer(device, {
    ...sizes,
    contextLength,
    feedForward: { kind: 'gelu' },
    ...(memory && { memory: { layers: [1], ...memory } }),
    seed: 1,
  })
}

/** Our step, and the share of attention in it. */
class Training implements Contender {
  readonly #ours: Ours
  readonly #model: Transformer
  readonly #optimizer: AdamW
  readonly #sets: { tokens: Tensor; targets: Tensor }[]
  readonly attentionOverProducts: number[] = []

  constructor(ours: Ours, { shape, sets }: StepProblem) {
    this.#ours = ours
    this.#model = transformer(ours, shape)
    this.#optimizer = new AdamW(this.#model.parameters(), { lr })
    const tensor = (x: Int32Array) => ours.device.tensor(x, [shape.batch, shape.time])
    this.#sets = sets.map((s) => ({ tokens: tensor(s.tokens), targets: tensor(s.targets) }))
  }

  get threads(): number {
    return this.#ours.threads
  }

  #loss(set: number): Tensor {
    const { tokens, targets } = this.#sets[set]!
    return this.#model.loss(tokens, targets)
  }

  run(set: number): void {
    const loss = this.#loss(set)
    loss.backward()
    loss.dispose()
    clipGradNorm(this.#model.parameters(), 1).dispose()
    this.#optimizer.step()
    this.#optimizer.zeroGrad()
  }

  wait(): void {
    this.#ours.wait()
    const operations = Object.entries(this.#ours.device.profile())
    const seconds = (kind: RegExp) =>
      operations.reduce((sum, [name, o]) => (kind.test(name) ? sum + o.milliseconds : sum), 0)
    this.attentionOverProducts.push(seconds(attention) / seconds(products))
  }

  result() {
    using loss = this.#loss(0)
    return { loss: loss.dataSync() }
  }

  release(): void {
    this.#optimizer.dispose()
    this.#model.dispose()
    for (const { tokens, targets } of this.#sets) for (const t of [tokens, targets]) t.dispose()
  }
}

function problemOf(shape: GptShape): StepProblem {
  const numbers = (seed: number) =>
    Int32Array.from(uniform(shape.batch * shape.time, seed), (x) =>
      Math.floor((Math.abs(x) % 1) * shape.vocabSize),
    )
  const sets = Array.from({ length: inputSets }, (_, i) => ({
    tokens: numbers(1000 + i),
    targets: numbers(1100 + i),
  }))
  return { shape, sets }
}

const sizesText = ({ layers, dim, heads, batch, time, vocabSize }: GptShape) =>
  `${layers} layers, width ${dim}, ${heads} heads, ${batch}x${time}, ${vocabSize} tokens`

/** Times a step of every backend that can take one; the loss of a new model is that of a guess. */
async function timeSteps(
  env: Environment,
  shape: GptShape,
  backends: (backend: Backend) => Promise<Contender | undefined> | undefined,
) {
  const problem = problemOf(shape)
  const ours: Training[] = []
  const times = await compare(
    env,
    inputSets,
    async (backend) => {
      if (!env.ours.includes(backend as Ours)) return backends(backend) ?? backend.step?.(problem)
      const training = new Training(backend as Ours, problem)
      ours.push(training)
      return training
    },
    (result) => {
      if (result['loss']) expectNear('the loss', result['loss'], [Math.log(shape.vocabSize)], 0.2)
    },
  )
  return { ...times, ours }
}

function stepCase(shape: GptShape, kind: 'dense' | 'memory'): Case {
  const name = `model/step ${kind}/${sizesText(shape)}`
  return {
    name,
    resident: name,
    async run(env) {
      const { ours, ...times } = await timeSteps(env, shape, () => undefined)
      const notes: Record<string, number> = {}
      for (const { threads, attentionOverProducts } of ours) {
        const text = threadsText(threads)
        notes[`attention over products, ${text}`] = median(attentionOverProducts)
        const of = (name: string): Timing | undefined =>
          times.timings.find((t) => t.name === name && t.threads === threads)
        const peer = of('PyTorch')
        if (peer) notes[`times as long in PyTorch, ${text}`] = ratioOf(peer, of('memory-layers')!)
      }
      return { name, ...times, notes }
    },
  }
}

/** The products of a step of a dense decoder, and how often each is made. */
function productsOf({ layers, dim, batch, time, vocabSize }: GptShape): [GemmShape, number][] {
  const rows = batch * time
  const maps: [number, number, number][] = [
    [dim, dim, 4 * layers],
    [dim, 4 * dim, layers],
    [4 * dim, dim, layers],
    [dim, vocabSize, 1],
  ]
  return maps.flatMap(([inner, columns, count]): [GemmShape, number][] => [
    [{ rows, inner, columns }, count],
    [{ rows, inner: columns, columns: inner }, count],
    [{ rows: columns, inner: rows, columns: inner }, count],
  ])
}

async function productsAlone(backend: Backend, shape: GptShape): Promise<Contender> {
  const parts: { contender: Contender; count: number }[] = []
  for (const [gemm, count] of productsOf(shape)) {
    const weight = uniform(gemm.columns * gemm.inner, 1200)
    const inputs = [uniform(gemm.rows * gemm.inner, 1201)]
    const dy = new Float32Array(gemm.rows * gemm.columns)
    const contender = await backend.gemm!({ shape: gemm, product: 'y', weight, inputs, dy })
    parts.push({ contender: contender!, count })
  }
  return {
    async run() {
      for (const { contender, count } of parts)
        for (let i = 0; i < count; i++) await contender.run(0)
    },
    result: () => ({}),
    async release() {
      for (const { contender } of parts) await contender.release?.()
    },
  }
}

function decoderCase(shape: GptShape): Case {
  const name = `model/decoder/${sizesText(shape)}`
  return {
    name,
    resident: name,
    async run(env) {
      const { ours: _, ...times } = await timeSteps(env, shape, (backend) =>
        backend.name === 'onnxruntime-node' ? productsAlone(backend, shape) : undefined,
      )
      const timings = times.timings.map((t) =>
        t.name === 'onnxruntime-node' ? { ...t, name: 'products alone, onnxruntime-node' } : t,
      )
      return { name, ...times, timings }
    },
  }
}

export const modelCases = ({ models: { gpt, decoder } }: Shapes): Case[] => {
  const { memory: _, ...dense } = gpt
  return [stepCase(dense, 'dense'), stepCase(gpt, 'memory'), decoderCase(decoder)]
}
