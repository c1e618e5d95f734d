// Steps that run operations: with a new result, into a given one, and into an input.

import { ops } from '../../../../lib/index.js'
import { activations } from '../../../reference/activation.js'
import { linear, linearBackward } from '../../../reference/linear.js'
import { rmsNorm } from '../../../reference/rms-norm.js'
import { softmax } from '../../../reference/softmax.js'
import type { Samples } from '../model/samples.js'
import { ModelTensor } from '../model/tensor.js'
import type { Pair, Picks, World } from '../world.js'
import type { Step } from './step.js'
import { matrices, matrix, sameShape } from './tensors.js'

/** The result of an operation: of the shape of `like`, new or a tensor that is there. */
function runInto(
  world: World,
  picks: Picks,
  like: Pair,
  inputs: readonly Pair[],
  inPlace: readonly Pair[],
  run: (out: Pair['real'] | undefined) => Pair['real'],
  value: () => Samples,
): void {
  const faults = inputs.reduce((bits, p) => bits | p.model.faults, 0)
  const out = sameShape(world, picks, like, 'float32')
  if (picks.below(2) === 0 || out.model.dtype !== 'float32') {
    const model = ModelTensor.make(like.model.shape, 'float32')
    model.overwrite(faults ? [] : value(), faults, world.noise)
    world.add(run(undefined), model)
    return
  }
  const clash = inputs.some(
    (p) => out.model.overlaps(p.model) && !(inPlace.includes(p) && out.model.covers(p.model)),
  )
  if (clash) {
    world.expectCode('an operation whose out overlaps an input', 'ERR_VALUE', () => run(out.real))
    return
  }
  run(out.real)
  out.model.overwrite(faults ? [] : value(), faults, world.noise)
}

/** Whether products of these stay far from the ends of float32. */
function moderate(...pairs: Pair[]): boolean {
  return pairs.every((p) => p.model.samples[0]!.every((v) => Math.abs(v) < 1e4))
}

function square(world: World, picks: Picks, dtype: Pair['model']['dtype']): Pair | undefined {
  const { C } = world.profile
  const choices = matrices(world, dtype).filter((p) => p.model.shape.join() === `${C},${C}`)
  return choices.length > 0 ? picks.of(choices) : undefined
}

export const operationSteps: Record<string, Step> = {
  add: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    const y = sameShape(world, picks, x, 'float32')
    const [alpha, beta] = [picks.number(), picks.number()]
    runInto(
      world,
      picks,
      x,
      [x, y],
      [x, y],
      (out) => ops.add(x.real, y.real, { alpha, beta, out }),
      () =>
        world.noise.map([x.model.samples, y.model.samples], (x, y) =>
          x!.map((v, i) => Math.fround(alpha) * v + Math.fround(beta) * y![i]!),
        ),
    )
  },

  silu: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    runInto(
      world,
      picks,
      x,
      [x],
      [x],
      (out) => ops.silu(x.real, { out }),
      () => world.noise.map([x.model.samples], (x) => x!.map(activations.silu.f)),
    )
  },

  softmax: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    const { C } = world.profile
    runInto(
      world,
      picks,
      x,
      [x],
      [x],
      (out) => ops.softmax(x.real, { out }),
      () => world.noise.map([x.model.samples], (x) => softmax(x!, C)),
    )
  },

  rmsNorm: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    const { C } = world.profile
    runInto(
      world,
      picks,
      x,
      [x],
      [x],
      (out) => ops.rmsNorm(x.real, undefined, { out, eps: 0.1 }),
      () => world.noise.map([x.model.samples], (x) => rmsNorm(x!, undefined, C, 0.1)),
    )
  },

  linear: (world, picks) => {
    const x = matrix(world, picks)
    const weight = square(world, picks, x.model.dtype)
    if (x.model.shape.length !== 2 || !weight || !moderate(x, weight)) return
    const { C } = world.profile
    const rows = x.model.shape[0]!
    runInto(
      world,
      picks,
      x,
      [x, weight],
      [],
      (out) => ops.linear(x.real, weight.real, undefined, { out }),
      () =>
        world.noise.map([x.model.samples, weight.model.samples], (x, w) =>
          linear(x!, w!, undefined, rows, C, C),
        ),
    )
  },

  // The weight's gradient is added to what is there.
  linearBackwardInto: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    const dy = sameShape(world, picks, x, 'float32')
    const weight = square(world, picks, 'float32')
    const into = square(world, picks, 'float32')
    if (x.model.shape.length !== 2 || !weight || !into || !moderate(x, dy, weight)) return
    const { C } = world.profile
    const rows = x.model.shape[0]!
    const call = () =>
      ops.linearBackward(dy.real, x.real, weight.real, {
        needs: { x: true, weight: true, bias: false },
        into: { weight: into.real },
      })
    if ([x, dy, weight].some((p) => p.model.overlaps(into.model))) {
      world.expectCode('linearBackward into an input', 'ERR_VALUE', call)
      return
    }
    const operands = [dy, x, weight, into]
    const faults = operands.reduce((sum, { model }) => sum | model.faults, 0)
    const dxModel = ModelTensor.make(x.model.shape, 'float32')
    const samples = operands.map((p) => p.model.samples)
    const [dx, dWeight] = world.noise.mapAll(samples, (dy, x, w, before) => {
      const g = linearBackward(dy!, x!, w!, rows, C, C)
      return [g.dx, g.dWeight.map((v, i) => v + before![i]!)]
    })
    const result = call()
    dxModel.overwrite(dx!, faults | 0, world.noise)
    into.model.update(dWeight!, faults, world.noise)
    world.add(result.dx, dxModel)
  },

  wrongShape: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    using y = world.device.zeros([world.profile.T + 1, world.profile.C + 1])
    world.expectCode('gate of another shape', 'ERR_SHAPE', () => ops.siluGate(x.real, y))
    world.expectCode('write of another size', 'ERR_SHAPE', () => x.real.write([]))
  },

  wrongType: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    using y = world.device.zeros(x.model.shape, 'int32')
    world.expectCode('add of integers', 'ERR_DTYPE', () => ops.add(x.real, y, { out: x.real }))
  },

  wrongDevice: (world, picks) => {
    const x = matrix(world, picks, 'float32')
    using y = world.other.zeros(x.model.shape)
    const call = () => ops.add(x.real, y, { out: x.real })
    world.expectCode('add of another device', 'ERR_DEVICE_MISMATCH', call)
  },
}
