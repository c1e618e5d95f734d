// Whole memory layers: forward, backward and step as the table grows, with the shares of the
// operations; and one token.

import { AdamW, MemoryLayer, RowwiseAdagrad, type Tensor } from '../../lib/index.js'
import type { TokenProblem } from '../backends/backend.js'
import type { Ours } from '../backends/ours.js'
import { oneToken } from '../backends/plain.js'
import { uniform } from '../data.js'
import { watchOthers } from '../disturbance.js'
import { type Contender, expectNear, ratioOf, type Timing, timingOf } from '../harness.js'
import type { LayerShape, Shapes } from '../shapes.js'
import { type Case, CheckFailed, contest, spread } from './case.js'

type State = Record<string, Float32Array>

async function stateOf(layer: MemoryLayer): Promise<State> {
  const entries = Object.entries(layer.stateDict()).map(
    async ([name, t]) => [name, (await t.data()) as Float32Array] as const,
  )
  return Object.fromEntries(await Promise.all(entries))
}

const optimizers = {
  rowwiseAdagrad: (layer: MemoryLayer) => new RowwiseAdagrad(layer.parameters(), { lr: 1e-3 }),
  adamw: (layer: MemoryLayer) => new AdamW(layer.parameters(), { lr: 1e-3 }),
}

const phases = ['forward', 'backward', 'step'] as const
// Operations whose cost grows with the number of half-keys, that is with the square root of the
// rows.
const ofTheKeys = /product_key|dense_update|fill/

class Growing {
  readonly rows: number
  readonly layer: MemoryLayer
  readonly #optimizer: RowwiseAdagrad | AdamW
  readonly #ours: Ours
  readonly samples: Record<(typeof phases)[number] | 'whole', number[]> = {
    forward: [],
    backward: [],
    step: [],
    whole: [],
  }
  /** Seconds of the operations whose cost does not grow with the half-keys. */
  readonly apart: number[] = []
  /** Seconds by operation, over all samples. */
  readonly operations = new Map<string, number>()

  constructor(ours: Ours, shape: LayerShape, nKeys: number) {
    const { tokens: _, optimizer, ...options } = shape
    this.rows = nKeys ** 2
    this.#ours = ours
    this.layer = new MemoryLayer(ours.device, { ...options, nKeys, seed: 1 })
    this.#optimizer = optimizers[optimizer](this.layer)
  }

  train(x: Tensor, dy: Tensor, keep: boolean): void {
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
    for (const [i, phase] of phases.entries())
      this.samples[phase].push((times[i + 1]! - times[i]!) / 1e3)
    this.samples.whole.push((times[3]! - times[0]!) / 1e3)
    let apart = 0
    for (const [name, { milliseconds }] of Object.entries(profile)) {
      if (name === 'read') continue
      this.operations.set(name, (this.operations.get(name) ?? 0) + milliseconds / 1e3)
      if (!ofTheKeys.test(name)) apart += milliseconds / 1e3
    }
    this.apart.push(apart)
  }

  /** Seconds of all operations of a step, on average. */
  parts(): number {
    return [...this.operations.values()].reduce((a, b) => a + b, 0) / this.samples.whole.length
  }

  dispose(): void {
    this.#optimizer.dispose()
    this.layer.dispose()
  }
}

const millions = (rows: number) => rows.toLocaleString('en')

function growingCase(shape: LayerShape): Case {
  const { inputDim, heads, knn, keyDim, valueDim, tokens, optimizer, nKeys } = shape
  const name = `layer/${tokens}x${inputDim}/${heads} heads, k ${knn}, key ${keyDim}, value ${valueDim}/${optimizer}`
  return {
    name,
    resident: name,
    async run(env) {
      const ours = env.ours.at(-1)!
      const runs = nKeys.map((n) => new Growing(ours, shape, n))
      const x = ours.device.tensor(uniform(tokens * inputDim, 800), [tokens, inputDim])
      const dy = ours.device.tensor(uniform(tokens * inputDim, 801), [tokens, inputDim])
      try {
        await checkForward(runs[0]!.layer, shape, x)
        const others = watchOthers(env.helpers)
        const begin = performance.now()
        for (
          let rep = 0;
          rep < 2 + env.effort.fewest ||
          (rep < 2 + env.effort.most && performance.now() - begin < env.effort.budget * 10_000);
          rep++
        ) {
          for (let i = 0; i < runs.length; i++)
            runs[(i + rep) % runs.length]!.train(x, dy, rep >= 2)
        }
        const timings = runs.flatMap((run) =>
          ([...phases, 'whole'] as const).map((phase) =>
            timingOf(`${millions(run.rows)} rows, ${phase}`, ours.threads, run.samples[phase]),
          ),
        )
        return { name, timings, others: others(), notes: notesOf(runs, timings) }
      } finally {
        for (const run of runs) run.dispose()
        x.dispose()
        dy.dispose()
      }
    },
  }
}

function notesOf(runs: readonly Growing[], timings: readonly Timing[]): Record<string, number> {
  const whole = (run: Growing) =>
    timings.find((t) => t.name === `${millions(run.rows)} rows, whole`)!
  const first = runs[0]!
  const last = runs.at(-1)!
  const notes: Record<string, number> = {}
  const mean = first.samples.whole.reduce((a, b) => a + b, 0) / first.samples.whole.length
  notes['operations of a step, sum over whole'] = first.parts() / mean
  for (const [i, run] of runs.entries()) {
    if (i > 0)
      notes[`${millions(run.rows)} rows over ${millions(runs[i - 1]!.rows)}, whole step`] = ratioOf(
        whole(run),
        whole(runs[i - 1]!),
      )
  }
  notes[`${millions(last.rows)} rows over ${millions(first.rows)}, whole step`] = ratioOf(
    whole(last),
    whole(first),
  )
  const apart = (run: Growing) => timingOf('apart', 0, run.apart)
  notes[
    `${millions(last.rows)} rows over ${millions(first.rows)}, without what grows with the half-keys`
  ] = ratioOf(apart(last), apart(first))
  const total = first.parts()
  for (const [operation, seconds] of [...first.operations].sort((a, b) => b[1] - a[1]).slice(0, 8))
    notes[`share of ${operation}, ${millions(first.rows)} rows`] =
      seconds / first.samples.whole.length / total
  return notes
}

/**
 * The outputs of sampled tokens, computed by plain loops. The layer's value and output widths may
 * differ.
 */
async function checkForward(layer: MemoryLayer, shape: LayerShape, x: Tensor): Promise<void> {
  const state = await stateOf(layer)
  const { output, context } = layer.forward(x)
  context.dispose()
  const got = (await output.data()) as Float32Array
  const input = (await x.data()) as Float32Array
  output.dispose()
  const { inputDim, tokens } = shape
  for (const t of spread(tokens, 3)) {
    const { y } = oneToken(
      { ...shape, nKeys: shape.nKeys[0]! },
      state,
      input.subarray(t * inputDim, (t + 1) * inputDim),
    )
    try {
      expectNear(`output of token ${t}`, got.subarray(t * inputDim, (t + 1) * inputDim), y, 1e-3)
    } catch (error) {
      throw new CheckFailed((error as Error).message)
    }
  }
}

const tokenInputs = 64

function tokenCase(shapes: Shapes): Case {
  const shape = shapes.token
  const { inputDim, heads, knn, keyDim, nKeys } = shape
  const name = `token/${inputDim}/${heads} heads, k ${knn}, key ${keyDim}, n ${nKeys}`
  return {
    name,
    resident: name,
    async run(env) {
      const options = { ...shape, seed: 1 }
      const layers = env.ours.map((ours) => new MemoryLayer(ours.device, options))
      const state = await stateOf(layers[0]!)
      const inputs = Array.from({ length: tokenInputs }, (_, i) => uniform(inputDim, 900 + i))
      const outputs = inputs.map((x) => oneToken(shape, state, x))
      const problem: TokenProblem = { shape, state, inputs, rows: outputs.map((o) => o.rows) }
      const reserved = () => env.ours.reduce((sum, ours) => sum + ours.device.memory().reserved, 0)
      let before = 0
      try {
        const contenders = new Map(
          env.ours.map((ours, i) => [
            ours as unknown,
            inference(ours, layers[i]!, inputs, (y) => y.dataSync()),
          ]),
        )
        const awaited = env.ours.map((ours, i) => {
          const contender = inference(ours, layers[i]!, inputs, (y) => y.data())
          return { name: `${ours.name}, awaited`, threads: ours.threads, contender }
        })
        const r = await contest(
          env,
          tokenInputs,
          problem,
          async (backend, p) => contenders.get(backend) ?? backend.token?.(p),
          (result) => {
            expectNear('the output', result['y'], outputs[0]!.y, 1e-3)
            before = reserved() // the last check is before the first timing
          },
          awaited,
        )
        return {
          name,
          ...r,
          notes: { ...beyond(r.timings), 'bytes reserved after warm-up': reserved() - before },
        }
      } finally {
        for (const layer of layers) layer.dispose()
      }
    },
  }
}

type Read = (output: Tensor) => Float32Array | Promise<Float32Array>

/** Each call waits for its output: this is the time to an answer. */
function inference(
  ours: Ours,
  layer: MemoryLayer,
  inputs: readonly Float32Array[],
  read: Read,
): Contender {
  const xs = inputs.map((x) => ours.device.tensor(x, [1, x.length]))
  const run = (set: number) => {
    const output = layer.infer(xs[set]!)
    const data = read(output)
    output.dispose() // in order behind the reading
    return data
  }
  const result = async () => {
    for (let i = 0; i < 3; i++) await run(0)
    return { y: await run(0) }
  }
  return { run, result, release: () => xs.forEach((x) => void x.dispose()) }
}

function beyond(timings: readonly Timing[]): Record<string, number> {
  const notes: Record<string, number> = {}
  for (const t of timings.filter((t) => t.name === 'memory-layers')) {
    const floor = timings.find((f) => f.name === 'ceiling' && f.threads === t.threads)
    if (floor)
      notes[`µs beyond the bytes' floor, ${t.threads} threads`] = (t.seconds - floor.seconds) * 1e6
  }
  return notes
}

export const layerCases = (shapes: Shapes): Case[] => [
  ...shapes.layers.map(growingCase),
  tokenCase(shapes),
]
