// Whole memory layers: forward, backward and step as the table grows, and the share of each
// operation.

import { AdamW, MemoryLayer, RowwiseAdagrad, type Tensor } from '../../lib/index.js'
import type { Ours } from '../backends/ours.js'
import { expectNear, memoryLayer, rowsOf, spaced, WrongResult } from '../check.js'
import { uniform } from '../data.js'
import { watchOthers } from '../disturbance.js'
import { ratioOf, type Timing, timingOf } from '../harness.js'
import type { LayerShape, Shapes } from '../shapes.js'
import { type Case, CheckFailed } from './case.js'
import { stateOf } from './token.js'

const optimizers = {
  rowwiseAdagrad: (layer: MemoryLayer) => new RowwiseAdagrad(layer.parameters(), { lr: 1e-3 }),
  adamw: (layer: MemoryLayer) => new AdamW(layer.parameters(), { lr: 1e-3 }),
}

const phases = ['forward', 'backward', 'step', 'total'] as const
// Operations whose cost grows with the number of half-keys: with the square root of the rows.
const halfKeyWork = /product_key|dense_update|fill/
const warmUps = 2
const shownShares = 8

/** A layer in training, and what its steps took. */
class Training {
  readonly rows: string
  readonly layer: MemoryLayer
  readonly #optimizer: RowwiseAdagrad | AdamW
  readonly #ours: Ours
  readonly samples = { forward: [], backward: [], step: [], total: [] } as Record<
    (typeof phases)[number],
    number[]
  >
  /** Seconds of the operations whose cost does not grow with the half-keys. */
  readonly #withoutHalfKeys: number[] = []
  /** Seconds by operation, over all samples. */
  readonly #operations = new Map<string, number>()

  constructor(ours: Ours, shape: LayerShape, nKeys: number) {
    const { tokens: _, optimizer, ...options } = shape
    this.rows = (nKeys ** 2).toLocaleString('en')
    this.#ours = ours
    this.layer = new MemoryLayer(ours.device, { ...options, nKeys, seed: 1 })
    this.#optimizer = optimizers[optimizer](this.layer)
  }

  step(x: Tensor, dy: Tensor, keep: boolean): void {
    const { wait, device } = this.#ours
    device.profile()
    const times = [performance.now()]
    const lap = () => {
      wait()
      times.push(performance.now())
    }
    const { output, context } = this.layer.forward(x)
    lap()
    const dx = this.layer.backward(context, dy)
    lap()
    this.#optimizer.step()
    this.#optimizer.zeroGrad()
    lap()
    output.dispose()
    dx.dispose()
    const profile = device.profile()
    if (!keep) return
    for (const [i, phase] of phases.entries()) {
      const [from, to] = phase === 'total' ? [0, i] : [i, i + 1]
      this.samples[phase].push((times[to]! - times[from]!) / 1e3)
    }
    let withoutHalfKeys = 0
    for (const [name, { milliseconds }] of Object.entries(profile)) {
      if (name === 'read') continue
      this.#operations.set(name, (this.#operations.get(name) ?? 0) + milliseconds / 1e3)
      if (!halfKeyWork.test(name)) withoutHalfKeys += milliseconds / 1e3
    }
    this.#withoutHalfKeys.push(withoutHalfKeys)
  }

  timing(phase: (typeof phases)[number]): Timing {
    return timingOf(`${this.rows} rows, ${phase}`, this.#ours.threads, this.samples[phase])
  }

  get withoutHalfKeys(): Timing {
    return timingOf('without half-key work', this.#ours.threads, this.#withoutHalfKeys)
  }

  get #operationsSum(): number {
    return [...this.#operations.values()].reduce((a, b) => a + b, 0)
  }

  get overTotal(): number {
    return this.#operationsSum / this.samples.total.reduce((a, b) => a + b, 0)
  }

  /** Operation and its share of the sum, the largest first. */
  get shares(): [string, number][] {
    return [...this.#operations]
      .map(([name, seconds]): [string, number] => [name, seconds / this.#operationsSum])
      .sort((a, b) => b[1] - a[1])
  }

  dispose(): void {
    this.#optimizer.dispose()
    this.layer.dispose()
  }
}

function layerCase(shape: LayerShape): Case {
  const { inputDim, heads, knn, keyDim, valueDim, tokens, optimizer, nKeys } = shape
  const lookup = `${heads} heads, k ${knn}, key ${keyDim}, value ${valueDim}`
  const name = `layer/${tokens}x${inputDim}/${lookup}/${optimizer}`
  return {
    name,
    resident: name,
    async run({ ours: list, effort: { minReps, maxReps, budget }, pids }) {
      const ours = list.at(-1)!
      const layers = nKeys.map((n) => new Training(ours, shape, n))
      const x = ours.device.tensor(uniform(tokens * inputDim, 800), [tokens, inputDim])
      const dy = ours.device.tensor(uniform(tokens * inputDim, 801), [tokens, inputDim])
      try {
        await checkForward(layers[0]!.layer, shape, x)
        const others = watchOthers(pids)
        const begin = performance.now()
        const timeLeft = () => performance.now() - begin < budget * 10_000
        for (let rep = -warmUps; rep < minReps || (rep < maxReps && timeLeft()); rep++) {
          for (let i = 0; i < layers.length; i++)
            layers[(i + rep + warmUps) % layers.length]!.step(x, dy, rep >= 0)
        }
        const timings = layers.flatMap((layer) => phases.map((phase) => layer.timing(phase)))
        return { name, timings, others: others(), notes: notesOf(layers) }
      } finally {
        for (const layer of layers) layer.dispose()
        x.dispose()
        dy.dispose()
      }
    },
  }
}

function notesOf(layers: readonly Training[]): Record<string, number> {
  const first = layers[0]!
  const last = layers.at(-1)!
  const growth = (a: Training, b: Training): [string, number] => [
    `${a.rows} rows over ${b.rows}, step total`,
    ratioOf(a.timing('total'), b.timing('total')),
  ]
  return Object.fromEntries([
    ['sub-operations over total', first.overTotal],
    ...layers.slice(1).map((layer, i) => growth(layer, layers[i]!)),
    growth(last, first),
    [
      `${last.rows} rows over ${first.rows}, without half-key work`,
      ratioOf(last.withoutHalfKeys, first.withoutHalfKeys),
    ],
    ...first.shares
      .slice(0, shownShares)
      .map(([name, share]) => [`share of ${name}, ${first.rows} rows`, share]),
  ])
}

async function checkForward(layer: MemoryLayer, shape: LayerShape, x: Tensor): Promise<void> {
  const { inputDim, tokens, nKeys } = shape
  const { output, context } = layer.forward(x)
  context.dispose()
  const got = await output.data()
  output.dispose()
  const sample = spaced(tokens, 3)
  const input = rowsOf(await x.data(), inputDim, sample)
  const { y } = memoryLayer({ ...shape, nKeys: nKeys[0]! }, await stateOf(layer), input)
  try {
    expectNear('outputs of sampled tokens', rowsOf(got, inputDim, sample), y, 1e-3)
  } catch (error) {
    throw error instanceof WrongResult ? new CheckFailed(error.message) : error
  }
}

export const layerCases = (shapes: Shapes): Case[] => shapes.layers.map(layerCase)
