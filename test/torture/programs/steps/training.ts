// Steps of training: forward, backward, clipping, the optimizer's step, and reads of what they
// changed.

import { clipGradNorm } from '../../../../lib/index.js'
import { embeddingBag, fixedOffsets } from '../../../reference/embedding-bag.js'
import { linear, linearBackward } from '../../../reference/linear.js'
import { uniform } from '../../../support/random.js'
import { Difference } from '../difference.js'
import type { Layers, Memory } from '../layers.js'
import { clip } from '../model/optimizer.js'
import { exactly } from '../model/samples.js'
import { ModelTensor } from '../model/tensor.js'
import type { Pair, Picks, World } from '../world.js'
import { badIndex, indices } from './bags.js'
import { matrix, sameShape } from './tensors.js'

export type LayerStep = (world: World, picks: Picks, layers: Layers) => void | Promise<void>

/** A float32 matrix `[rows, C]` of moderate numbers. */
function input(world: World, picks: Picks): Pair | undefined {
  const x = matrix(world, picks, 'float32')
  const moderate = x.model.samples[0]!.every((v) => Math.abs(v) < 50)
  return x.model.shape.length === 2 && moderate ? x : undefined
}

function output(
  world: World,
  shape: readonly number[],
  samples: Pair['model']['samples'],
  faults: number,
) {
  const model = ModelTensor.make(shape, 'float32')
  model.overwrite(samples, faults, world.noise)
  return model
}

function forward(world: World, picks: Picks, { real, model, contexts }: Memory): void {
  const x = input(world, picks)
  if (!x) return
  const [T = 0, C = 0] = x.model.shape
  const expected = model.forward(x.model.samples, T, x.model.faults)
  const result = real.forward(x.real)
  world.add(result.output, output(world, [T, C], expected.output, expected.context.faults))
  const saved = { input: x.model, writes: x.model.writes }
  contexts.push({ real: result.context, model: expected.context, ...saved })
}

function backward(world: World, picks: Picks, { real, model, contexts }: Memory): void {
  if (contexts.length === 0) return
  const at = picks.below(contexts.length)
  const context = contexts[at]!
  const shape = [context.model.T, world.profile.C]
  const data = uniform(shape[0]! * shape[1]!, picks.below(1 << 16))
  const dy = world.device.tensor(data, shape)
  try {
    // Recorded for the last few writes to a store alone: more of them count as writes to all of it.
    const sure = context.input.writtenSince(context.writes)
    const unsure = context.input.writes - context.writes > 4
    if (sure) {
      const name = 'backward after its input was written'
      world.expectCode(name, 'ERR_CONTEXT', () => real.backward(context.real, dy))
    }
    if (sure || unsure) {
      contexts.splice(at, 1)
      context.real.dispose()
      return
    }
    const dx = real.backward(context.real, dy)
    contexts.splice(at, 1)
    const expected = model.backward(context.model, exactly(data), 0)
    world.add(dx, output(world, shape, expected.dx, expected.faults))
    const spent = () => real.backward(context.real, dy)
    if (picks.below(4) === 0) world.expectCode('a spent context', 'ERR_CONTEXT', spent)
  } finally {
    dy.dispose()
  }
}

/** Contexts that saw other parameters would have other gradients. */
function dropContexts({ memories, embedding }: Layers): void {
  for (const { contexts } of memories) for (const { real } of contexts.splice(0)) real.dispose()
  for (const { real } of embedding.open.splice(0)) real.dispose()
}

export const trainingSteps: Record<string, LayerStep> = {
  forward: (world, picks, { memories }) => forward(world, picks, picks.of(memories)),

  backward: (world, picks, { memories }) => backward(world, picks, picks.of(memories)),

  infer: (world, picks, { memories }) => {
    const { real, model } = picks.of(memories)
    const x = input(world, picks)
    if (!x) return
    const [T = 0, C = 0] = x.model.shape
    const expected = model.forward(x.model.samples, T, x.model.faults)
    const faults = expected.context.faults
    world.add(real.infer(x.real), output(world, [T, C], expected.output, faults))
  },

  linearLayer: (world, picks, { linear: layer }) => {
    const x = input(world, picks)
    if (!x) return
    const [T = 0, C = 0] = x.model.shape
    const { output: y, context } = layer.real.forward(x.real)
    const weight = layer.parameters.get('weight')!
    const bias = layer.parameters.get('bias')!
    const inputs = [x.model.samples, weight.value.samples, bias.value.samples]
    const value = world.noise.map(inputs, (x, w, b) => linear(x!, w!, b, T, C, C))
    world.add(y, output(world, [T, C], value, x.model.faults))
    const dy = sameShape(world, picks, x, 'float32')
    const dyFaults = dy.model.faults
    if (dy.model.samples[0]!.some((v) => Math.abs(v) > 50)) return context.dispose()
    const dx = layer.real.backward(context, dy.real)
    const ofWeights = dyFaults | x.model.faults
    const [gx, gw, gb] = world.noise.mapAll(
      [
        dy.model.samples,
        x.model.samples,
        weight.value.samples,
        weight.grad.samples,
        bias.grad.samples,
      ],
      (dy, x, w, dw, db) => {
        const g = linearBackward(dy!, x!, w!, T, C, C)
        return [g.dx, g.dWeight.map((v, i) => v + dw![i]!), g.dBias.map((v, i) => v + db![i]!)]
      },
    )
    // One operation computes all three.
    world.add(dx, output(world, [T, C], gx!, ofWeights))
    weight.grad.update(gw!, ofWeights, world.noise)
    bias.grad.update(gb!, ofWeights, world.noise)
  },

  embed: (world, picks, { embedding }) => {
    const { C } = world.profile
    const tokens = indices(world, picks)
    const [T = 0, L = 0] = tokens.model.shape
    if (world.faults.full) return
    const bad = badIndex(tokens, embedding.model.slots)
    const before = tokens.model.faults | embedding.model.weight.faults
    const faults = before || bad === undefined ? before : world.faults.add(bad)
    const { output: y, context } = embedding.real.forward(tokens.real)
    const read = tokens.model.samples.map((s) => Float64Array.from(s))
    const bags = {
      indices: read[0]!,
      weights: new Float64Array(T * L).fill(1),
      offsets: fixedOffsets(T * L, 1),
    }
    const rows = embedding.model.weight.samples
    const value = faults ? [] : world.noise.map([rows], (t) => embeddingBag(t!, C, bags))
    world.add(y, output(world, [T, L, C], value, faults))
    embedding.open.push({ real: context, tokens: read, faults: tokens.model.faults, bad })
  },

  embedBackward: (world, picks, { embedding }) => {
    if (embedding.open.length === 0 || world.faults.full) return
    const [open] = embedding.open.splice(picks.below(embedding.open.length), 1)
    const { real, tokens, faults, bad } = open!
    const { C } = world.profile
    const T = tokens[0]!.length
    const data = uniform(T * C, picks.below(1 << 16))
    const dy = world.device.tensor(data, [T, C])
    embedding.real.backward(real, dy)
    dy.dispose()
    const weights = exactly(new Float64Array(T).fill(1))
    const read = { T, indices: tokens, weights, dy: exactly(data) }
    embedding.model.push(read, faults || bad === undefined ? faults : world.faults.add(bad))
  },

  clip: (world, picks, layers) => {
    const maxNorm = 0.1 + picks.below(100) / 50
    const dense = layers.dense.map((p) => ({ value: p.value.model, grad: p.grad.model }))
    const tables = [layers.table.model, layers.embedding.model]
    const real = clipGradNorm(layers.parameters, maxNorm)
    const norm = clip(dense, tables, Math.fround(maxNorm), world.noise)
    world.add(real, output(world, [1], norm, 0))
  },

  step: (_, __, layers) => {
    layers.optimizer.real.step()
    layers.optimizer.model.step()
    dropContexts(layers)
  },

  zeroGrad: (_, __, layers) => {
    layers.optimizer.real.zeroGrad()
    layers.optimizer.model.zeroGrad()
  },

  readParameter: (world, picks, { dense }) => {
    const { name, value, grad } = picks.of(dense)
    if (picks.below(2) === 0) void world.read(name, value)
    else void world.read(`gradient of ${name}`, grad)
  },

  readTable: async (world, picks, { table, embedding }) => {
    const { real, model } = picks.below(2)
      ? table
      : { real: embedding.real.table, model: embedding.model }
    const { samples, faults, dtype } = model.weight
    const rows = await world.expectFaults('the table', real.weight.data(), faults)
    if (rows) world.compare('the table', rows, samples, dtype)
  },

  readTableGradient: async (world, picks, { table, embedding }) => {
    const { real, model } = picks.below(2)
      ? table
      : { real: embedding.real.table, model: embedding.model }
    const gradient = real.gradient()
    const { dense } = model.gradient()
    using values = gradient.toDense()
    gradient.dispose()
    world.compare("the table's gradient", await values.data(), dense)
  },

  loadTable: (world, picks, layers) => {
    const { real, model } = layers.table
    const data = uniform(model.slots * model.dim, picks.below(1 << 16))
    using rows = world.device.tensor(data, [model.slots, model.dim])
    if (picks.below(2)) real.load(rows)
    else real.weight.copyFrom(rows)
    model.weight.overwrite(exactly(data), 0, world.noise)
    dropContexts(layers)
  },

  foreignContext: (world, picks, { memories }) => {
    const [first, second] = memories as [Memory, Memory]
    const context = first.contexts[0]
    if (!context) return
    using dy = world.device.zeros([context.model.T, world.profile.C])
    world.expectCode('a foreign context', 'ERR_CONTEXT', () =>
      second.real.backward(context.real, dy),
    )
    if (picks.below(2)) throwIfCounted(second)
  },
}

// A refused backward queues nothing.
function throwIfCounted({ real, model }: Memory): void {
  if (real.values.pendingReads > 0 && model.table.queue.length === 0 && model.faults === 0)
    throw new Difference('a refused backward has queued a read')
}
