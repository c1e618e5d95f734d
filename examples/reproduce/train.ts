// Training and recall of one system. The clock counts training alone.

import { AdamW, type Device, noGrad, ops, type Tensor } from '../../lib/index.js'
import { CrossEntropy, schedules } from '../../lib/nn/index.js'
import { width } from '../demo/encoder.js'
import { shuffled } from '../demo/train.js'
import type { FactSet } from './facts.js'
import { FactModel, type Shape } from './systems.js'

export interface Rates {
  lr: number
  tableLr: number
}

export interface Training extends Rates {
  epochs: number
  batch: number
  seed: number
}

export interface Point {
  epoch: number
  seconds: number
  recall: number
}

export interface Trained {
  points: Point[]
  parameters: number
}

/** Facts by their positions, as tensors. */
export function batchOf(
  device: Device,
  data: FactSet,
  facts: ArrayLike<number>,
): { x: Tensor; targets: Tensor } {
  const rows = new Float32Array(facts.length * width)
  const targets = new Int32Array(facts.length)
  for (let i = 0; i < facts.length; i++) {
    const fact = facts[i]!
    rows.set(data.rows.subarray(fact * width, (fact + 1) * width), i * width)
    targets[i] = data.answers[fact]!
  }
  return { x: device.tensor(rows, [facts.length, width]), targets: device.tensor(targets) }
}

/** The share of these facts that the model answers rightly. */
export async function recallOf(model: FactModel, data: FactSet, facts: Uint32Array) {
  const size = 8192
  let right = 0
  for (let begin = 0; begin < facts.length; begin += size) {
    const part = facts.subarray(begin, begin + size)
    const { x, targets } = batchOf(model.device, data, part)
    const logits = noGrad(() => model.apply(x))
    const { values, indices } = ops.topK(logits, 1)
    const answers = await indices.data()
    right += answers.filter((answer, i) => answer === data.answers[part[i]!]).length
    for (const t of [x, targets, logits, values, indices]) t.dispose()
  }
  return right / facts.length
}

export const stepsOf = (facts: number, { epochs, batch }: { epochs: number; batch: number }) =>
  epochs * Math.ceil(facts / batch)

/** Trains a new model on all facts of a set; `onStep` is called after each step. */
export async function train(
  device: Device,
  data: FactSet,
  shape: Shape,
  o: Training,
  onStep: () => void,
): Promise<Trained> {
  const model = new FactModel(device, shape, data.classes, o.seed)
  try {
    const points = await trainModel(model, data, o, onStep)
    return { points, parameters: model.countParameters() }
  } finally {
    model.dispose()
  }
}

/** Trains a model on the facts at `positions`, all if left out. */
export async function trainModel(
  model: FactModel,
  data: FactSet,
  o: Training,
  onStep: () => void,
  positions = Uint32Array.from(data.answers.keys()),
): Promise<Point[]> {
  const { device } = model
  const perEpoch = Math.ceil(positions.length / o.batch)
  const total = o.epochs * perEpoch
  const warmup = Math.min(20, Math.ceil(total / 10))
  const factor = schedules.warmupLinear({ warmup, total, floor: 0 })
  const parameters = model.parameters()
  using optimizer = new AdamW(parameters, { lr: o.lr, tableLr: o.tableLr, betas: [0.9, 0.99] })
  const crossEntropy = new CrossEntropy(device)
  const points: Point[] = []
  let seconds = 0
  for (let epoch = 0; epoch < o.epochs; epoch++) {
    const order = shuffled(positions.length, o.seed * 1000 + epoch).map((i) => positions[i]!)
    const start = performance.now()
    for (let step = 0; step < perEpoch; step++) {
      const part = order.subarray(step * o.batch, (step + 1) * o.batch)
      const { x, targets } = batchOf(device, data, part)
      const { logits, balance } = model.forward(x)
      const mean = crossEntropy.apply(logits, targets)
      const loss = balance ? ops.add(mean, balance) : mean
      loss.backward()
      optimizer.lr = o.lr * factor(epoch * perEpoch + step)
      optimizer.step()
      optimizer.zeroGrad()
      for (const t of [x, targets, loss]) t.dispose()
      onStep()
      if (step % 16 === 15) await device.synchronize()
    }
    await device.synchronize()
    seconds += (performance.now() - start) / 1000
    points.push({ epoch: epoch + 1, seconds, recall: await recallOf(model, data, positions) })
  }
  return points
}
