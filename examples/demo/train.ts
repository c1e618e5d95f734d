// Training and measuring. The clock counts training alone: measuring recall on the way is left out
// of it.

import { AdamW, type Device, ops, type Tensor } from '../../lib/index.js'
import { CrossEntropy } from '../../lib/nn/index.js'
import type { Facts } from './data.js'
import { width } from './encoder.js'
import type { Model } from './model.js'

const batchSize = 1024
const warmUp = 20 // steps

export interface Point {
  epoch: number
  seconds: number
  recall: number
}

export interface Progress {
  epoch: number
  epochs: number
  step: number
  steps: number
  loss: number
}

export interface TrainOptions {
  epochs: number
  lr: number
  tableLr: number
  seed: number
  onProgress?: (p: Progress) => void
  /** Filled with the device's time by operation, of the training steps alone. */
  profile?: Profile
}

/** By operation: calls and milliseconds. */
export type Profile = Record<string, { calls: number; milliseconds: number }>

function addTo(sum: Profile, times: Profile): void {
  for (const [name, t] of Object.entries(times)) {
    sum[name] ??= { calls: 0, milliseconds: 0 }
    sum[name].calls += t.calls
    sum[name].milliseconds += t.milliseconds
  }
}

/** The facts on the host: encoded names and answers. */
export interface Encoded {
  rows: Float32Array
  facts: Facts
}

/** A small generator for shuffles (mulberry32). */
function randomOf(seed: number): () => number {
  let s = seed >>> 0
  return () => {
    s = (s + 0x6d2b79f5) >>> 0
    let t = Math.imul(s ^ (s >>> 15), s | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export function shuffled(count: number, seed: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i)
  const random = randomOf(seed)
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const t = order[i]!
    order[i] = order[j]!
    order[j] = t
  }
  return order
}

function batch(
  device: Device,
  data: Encoded,
  order: ArrayLike<number>,
  begin: number,
  end: number,
): { x: Tensor; targets: Tensor } {
  const x = new Float32Array((end - begin) * width)
  const targets = new Int32Array(end - begin)
  for (let i = begin; i < end; i++) {
    const fact = order[i]!
    x.set(data.rows.subarray(fact * width, (fact + 1) * width), (i - begin) * width)
    targets[i - begin] = data.facts.answers[fact]!
  }
  return { x: device.tensor(x, [end - begin, width]), targets: device.tensor(targets) }
}

/** The share of these facts that the model answers rightly. */
export async function recall(
  device: Device,
  model: Model,
  data: Encoded,
  chosen: ArrayLike<number>,
): Promise<number> {
  let right = 0
  const size = 8192
  for (let begin = 0; begin < chosen.length; begin += size) {
    const end = Math.min(chosen.length, begin + size)
    const { x, targets } = batch(device, data, chosen, begin, end)
    const logits = model.infer(x)
    const { values, indices } = ops.topK(logits, 1)
    const answers = await indices.data()
    for (let i = begin; i < end; i++)
      if (answers[i - begin] === data.facts.answers[chosen[i]!]) right++
    for (const t of [x, targets, logits, values, indices]) t.dispose()
  }
  return right / chosen.length
}

/** Training steps of one epoch over so many facts. */
export const stepsOf = (facts: number) => Math.ceil(facts / batchSize)

/**
 * Trains the model with AdamW, a short warm-up and a linear decay to zero. Returns recall after
 * each epoch: on a sample, and at the end on all.
 */
export async function train(
  device: Device,
  model: Model,
  data: Encoded,
  o: TrainOptions,
): Promise<Point[]> {
  const count = data.facts.names.length
  const steps = stepsOf(count)
  const sample = shuffled(count, 12345).subarray(0, 5000)
  const optimizer = new AdamW(model.parameters(), {
    lr: o.lr,
    tableLr: o.tableLr,
    betas: [0.9, 0.99],
  })
  const loss = new CrossEntropy(device)
  const points: Point[] = [
    { epoch: 0, seconds: 0, recall: await recall(device, model, data, sample) },
  ]
  let seconds = 0
  for (let epoch = 0; epoch < o.epochs; epoch++) {
    if (o.profile) device.profile() // forgets what measuring recall took
    const start = performance.now()
    const order = shuffled(count, o.seed * 1000 + epoch)
    for (let step = 0; step < steps; step++) {
      const { x, targets } = batch(
        device,
        data,
        order,
        step * batchSize,
        Math.min(count, (step + 1) * batchSize),
      )
      const { logits, saved } = model.forward(x)
      const { loss: mean, context } = loss.forward(logits, targets)
      const dLogits = loss.backward(context)
      model.backward(saved, dLogits)
      const done = epoch * steps + step
      const rate = Math.min(1, (done + 1) / warmUp) * (1 - done / (o.epochs * steps))
      optimizer.lr = o.lr * rate
      optimizer.tableLr = o.tableLr * rate
      optimizer.step()
      optimizer.zeroGrad()
      // Reading the loss is the only wait: once every few steps, so that the device is never idle
      // for long.
      if (step % 16 === 15 || step === steps - 1) {
        o.onProgress?.({
          epoch: epoch + 1,
          epochs: o.epochs,
          step: step + 1,
          steps,
          loss: (await mean.data())[0]!,
        })
      }
      for (const t of [x, targets, logits, mean, dLogits]) t.dispose()
    }
    await device.synchronize()
    seconds += (performance.now() - start) / 1000
    if (o.profile) addTo(o.profile, device.profile())
    const chosen = epoch === o.epochs - 1 ? shuffled(count, 1) : sample
    points.push({ epoch: epoch + 1, seconds, recall: await recall(device, model, data, chosen) })
  }
  optimizer.dispose()
  return points
}
