// What JavaScript costs beside the kernels: a generated token, a recorded node, a step by `apply`
// beside the same step by explicit contexts.

import { AdamW, noGrad, ops, type Tensor, tidy } from '../../lib/index.js'
import { type ExplicitModule, FeedForward, RmsNorm, type Transformer } from '../../lib/nn/index.js'
import type { Ours } from '../backends/ours.js'
import { uniform } from '../data.js'
import { watchOthers } from '../disturbance.js'
import { type Effort, median, ratioOf, timingOf } from '../harness.js'
import type { Shapes } from '../shapes.js'
import type { Case, Environment } from './case.js'
import { transformer } from './model.js'

const prompt = [1, 2, 3, 4, 5, 6, 7, 8]
const warmUps = 2
const microsecond = 1e-6

/** Runs `round` until the time is up; what it returns is thrown away at first. */
async function rounds<T>(
  { budget, minReps, maxReps }: Effort,
  round: () => Promise<T> | T,
): Promise<T[]> {
  const kept: T[] = []
  const begin = performance.now()
  for (let i = -warmUps; i < minReps || i < maxReps; i++) {
    const result = await round()
    if (i >= 0) kept.push(result)
    if (i >= minReps && performance.now() - begin > budget * 10_000) break
  }
  return kept
}

/** Seconds of each token behind the first. */
async function generate(model: Transformer, count: number): Promise<number[]> {
  const seconds: number[] = []
  let last = performance.now()
  for await (const _ of model.generate(prompt, { maxTokens: count, seed: 1 })) {
    const now = performance.now()
    seconds.push((now - last) / 1e3)
    last = now
  }
  return seconds.slice(1)
}

function generationCase({ models: { gpt, generated } }: Shapes): Case {
  const { memory: _, ...shape } = gpt
  const { layers, dim, heads, vocabSize } = shape
  const sizes = `${layers} layers, width ${dim}, ${heads} heads, ${vocabSize} tokens`
  const name = `model/generation/${sizes}`
  return {
    name,
    resident: name,
    async run({ ours, effort, pids }) {
      const time = prompt.length + generated
      const models = ours.map((o) => transformer(o, { ...shape, time }))
      try {
        const others = watchOthers(pids)
        const runs = await rounds(effort, async () => {
          const tokens: number[][] = []
          for (const model of models) tokens.push(await generate(model, generated))
          return tokens
        })
        const notes: Record<string, number> = {}
        const few = Math.ceil(generated / 16)
        const timings = ours.map(({ threads }, i) => {
          const ends = runs.map(
            (run) => median(run[i]!.slice(-few)) / median(run[i]!.slice(0, few)),
          )
          notes[`last tokens over first, ${threads} threads`] = median(ends)
          const tokens = runs.map((run) => median(run[i]!))
          notes[`µs a generated token, ${threads} threads`] = median(tokens) / microsecond
          return timingOf('memory-layers', threads, tokens)
        })
        return { name, timings, others: others(), notes }
      } finally {
        for (const model of models) model.dispose()
      }
    },
  }
}

const chained = 64

/** Seconds of a chain of operations on one number. */
function chain(x: Tensor): number {
  const begin = performance.now()
  tidy(() => {
    let y = x
    for (let i = 0; i < chained; i++) y = ops.silu(y)
  })
  return (performance.now() - begin) / 1e3
}

const recordingCase: Case = {
  name: 'model/recording/one number',
  resident: 'model/recording',
  async run({ ours, effort, pids }: Environment) {
    const { device, threads, wait } = ours.at(-1)!
    using x = device.tensor(Float32Array.of(1)).requireGrad()
    const others = watchOthers(pids)
    const runs = await rounds(effort, () =>
      Array.from({ length: 32 }, () => {
        wait()
        const recorded = chain(x)
        wait()
        return { recorded, plain: noGrad(() => chain(x)) }
      }),
    )
    const all = runs.flat()
    const recorded = timingOf(
      'chain, recorded',
      threads,
      all.map((run) => run.recorded),
    )
    const plain = timingOf(
      'chain, not recorded',
      threads,
      all.map((run) => run.plain),
    )
    const more = median(all.map((run) => run.recorded - run.plain))
    const notes = { 'µs a recorded node': more / chained / microsecond }
    return { name: this.name, timings: [recorded, plain], others: others(), notes }
  },
}

/** A step of norms and feed-forwards, in both ways. */
class Stack {
  readonly #ours: Ours
  readonly #modules: ExplicitModule<{ dispose(): void }>[]
  readonly #optimizer: AdamW
  readonly #x: Tensor
  readonly #dy: Tensor

  constructor(ours: Ours, { dim, batch, time }: { dim: number; batch: number; time: number }) {
    const { device } = ours
    this.#ours = ours
    this.#modules = [0, 1, 2].flatMap((seed) => [
      new RmsNorm(device, { dim }),
      new FeedForward(device, { dim, hiddenDim: 4 * dim, seed }),
    ])
    this.#optimizer = new AdamW(
      this.#modules.flatMap((m) => m.parameters()),
      { lr: 1e-3 },
    )
    const rows = batch * time
    this.#x = device.tensor(uniform(rows * dim, 1300), [rows, dim])
    this.#dy = device.tensor(uniform(rows * dim, 1301), [rows, dim])
  }

  #timed(step: () => void): number {
    this.#ours.wait()
    const begin = performance.now()
    step()
    this.#optimizer.step()
    this.#optimizer.zeroGrad()
    this.#ours.wait()
    return (performance.now() - begin) / 1e3
  }

  byApply(): number {
    return this.#timed(() => {
      using y = this.#modules.reduce((x, module) => module.apply(x), this.#x)
      y.backward(this.#dy)
    })
  }

  byContexts(): number {
    return this.#timed(() => {
      const contexts: { dispose(): void }[] = []
      let x = this.#x
      for (const module of this.#modules) {
        const { output, context } = module.forward(x)
        contexts.push(context)
        if (x !== this.#x) x.dispose()
        x = output
      }
      x.dispose()
      let dy = this.#dy
      for (const module of [...this.#modules].reverse()) {
        const dx = module.backward(contexts.pop()!, dy)
        if (dy !== this.#dy) dy.dispose()
        dy = dx
      }
      dy.dispose()
    })
  }

  dispose(): void {
    this.#optimizer.dispose()
    for (const owned of [...this.#modules, this.#x, this.#dy]) owned.dispose()
  }
}

function applyCase({ models: { gpt } }: Shapes): Case {
  const name = `model/apply/${gpt.batch * gpt.time}x${gpt.dim}`
  return {
    name,
    resident: name,
    async run({ ours, effort, pids }) {
      const all = ours.at(-1)!
      const stack = new Stack(all, gpt)
      try {
        const others = watchOthers(pids)
        const runs = await rounds(effort, () => [stack.byApply(), stack.byContexts()] as const)
        const apply = timingOf(
          'apply',
          all.threads,
          runs.map(([seconds]) => seconds),
        )
        const contexts = timingOf(
          'explicit contexts',
          all.threads,
          runs.map((run) => run[1]),
        )
        const notes = { 'apply over explicit contexts': ratioOf(apply, contexts) }
        return { name, timings: [apply, contexts], others: others(), notes }
      } finally {
        stack.dispose()
      }
    },
  }
}

export const callCases = (shapes: Shapes): Case[] => [
  generationCase(shapes),
  recordingCase,
  applyCase(shapes),
]
