// One token through a layer: the time to an answer.

import { MemoryLayer } from '../../lib/index.js'
import type { TokenProblem } from '../backends/backend.js'
import type { Ours } from '../backends/ours.js'
import { expectNear, memoryLayer } from '../check.js'
import { uniform } from '../data.js'
import type { Contender, Timing } from '../harness.js'
import type { Shapes } from '../shapes.js'
import { type Case, compare } from './case.js'

export async function stateOf(layer: MemoryLayer): Promise<Record<string, Float32Array>> {
  const entries = Object.entries(layer.stateDict()).map(
    async ([name, t]) => [name, (await t.data()) as Float32Array] as const,
  )
  return Object.fromEntries(await Promise.all(entries))
}

const inputSets = 64

export function tokenCase({ token: shape }: Shapes): Case {
  const { inputDim, heads, knn, keyDim, nKeys } = shape
  const name = `token/${inputDim}/${heads} heads, k ${knn}, key ${keyDim}, n ${nKeys}`
  return {
    name,
    resident: name,
    async run(env) {
      const layers = new Map<unknown, MemoryLayer>(
        env.ours.map((ours) => [ours, new MemoryLayer(ours.device, { ...shape, seed: 1 })]),
      )
      const state = await stateOf(layers.get(env.ours[0])!)
      const inputs = Array.from({ length: inputSets }, (_, i) => uniform(inputDim, 900 + i))
      const reference = inputs.map((x) => memoryLayer(shape, state, x))
      const problem: TokenProblem = { shape, state, rows: reference.map(({ rows }) => rows) }
      const reserved = () => env.ours.reduce((sum, ours) => sum + ours.device.memory().reserved, 0)
      let before = 0
      try {
        const times = await compare(
          env,
          inputSets,
          async (backend) => {
            const layer = layers.get(backend)
            return layer ? inference(backend as Ours, layer, inputs) : backend.token?.(problem)
          },
          (result) => {
            expectNear('the output', result['y'], reference[0]!.y, 1e-3)
            before = reserved() // the last check is before the first timing
          },
        )
        const notes = {
          ...beyondFloor(times.timings),
          'bytes reserved after warm-up': reserved() - before,
        }
        return { name, ...times, notes }
      } finally {
        for (const layer of layers.values()) layer.dispose()
      }
    },
  }
}

/** Each call waits for its output. */
function inference(
  { device }: Ours,
  layer: MemoryLayer,
  inputs: readonly Float32Array[],
): Contender {
  const xs = inputs.map((x) => device.tensor(x, [1, x.length]))
  const run = (set: number) => {
    const output = layer.infer(xs[set]!)
    const data = output.dataSync()
    output.dispose()
    return data
  }
  const warmUps = 3
  const result = () => {
    for (let i = 0; i < warmUps; i++) run(0)
    return { y: run(0) }
  }
  return { run, result, release: () => xs.forEach((x) => void x.dispose()) }
}

function beyondFloor(timings: readonly Timing[]): Record<string, number> {
  const notes: Record<string, number> = {}
  for (const t of timings.filter((t) => t.name === 'memory-layers')) {
    const floor = timings.find((f) => f.name === 'ceiling' && f.threads === t.threads)
    if (floor)
      notes[`µs beyond the bytes' floor, ${t.threads} threads`] = (t.seconds - floor.seconds) * 1e6
  }
  return notes
}
