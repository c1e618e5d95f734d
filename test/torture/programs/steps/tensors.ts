// Steps on tensors: made, viewed, written, copied, moved, read and disposed.

import type { DType } from '../../../../lib/index.js'
import { uniform } from '../../../support/random.js'
import { Difference } from '../difference.js'
import { exactly, type Samples } from '../model/samples.js'
import { count, ModelTensor } from '../model/tensor.js'
import type { Pair, Picks, World } from '../world.js'
import type { Step } from './step.js'

const floats = ['float32', 'float32', 'float32', 'bfloat16', 'float16'] as const

/** Float tensors of rows of C; of one dtype, if it is given. */
export function matrices(world: World, dtype?: DType): Pair[] {
  return world.tensors.filter(({ model }) => {
    const rows = model.shape.length >= 2 && model.shape.at(-1) === world.profile.C
    return rows && model.dtype !== 'int32' && (dtype === undefined || model.dtype === dtype)
  })
}

/** A float tensor; a new one if there is none. */
export function matrix(world: World, picks: Picks, dtype?: DType): Pair {
  const choices = matrices(world, dtype)
  return choices.length > 0 ? picks.of(choices) : newMatrix(world, picks, dtype)
}

function newMatrix(world: World, picks: Picks, dtype: DType = picks.of(floats)): Pair {
  const shape = [1 + picks.below(world.profile.T), world.profile.C]
  const data = uniform(count(shape), picks.below(1 << 16))
  const model = ModelTensor.make(shape, dtype)
  model.overwrite(exactly(data), 0, world.noise)
  return world.add(world.device.tensor(data, shape, dtype), model)
}

/** Another tensor of the same shape as `like`, of any float dtype. */
export function sameShape(world: World, picks: Picks, like: Pair, dtype?: DType): Pair {
  const wanted = like.model.shape.join()
  const choices = matrices(world, dtype).filter((p) => p.model.shape.join() === wanted)
  return choices.length > 0 ? picks.of(choices) : like
}

function write(picks: Picks, { real, model }: Pair): Samples {
  const data = uniform(model.size, picks.below(1 << 16))
  real.write(data)
  return exactly(data)
}

export const tensorSteps: Record<string, Step> = {
  tensor: (world, picks) => void newMatrix(world, picks),

  zeros: (world, picks) => {
    const shape = [1 + picks.below(world.profile.T), world.profile.C]
    const dtype = picks.of(floats)
    world.add(world.device.zeros(shape, dtype), ModelTensor.make(shape, dtype))
  },

  emptyThenWrite: (world, picks) => {
    const shape = [1 + picks.below(world.profile.T), world.profile.C]
    const dtype = picks.of(floats)
    const pair = world.add(world.device.empty(shape, dtype), ModelTensor.make(shape, dtype))
    pair.model.overwrite(write(picks, pair), 0, world.noise)
  },

  rows: (world, picks) => {
    const { real, model } = matrix(world, picks)
    const [rows, ...rest] = model.shape
    if (rows === 0 || rows === undefined || rest.length === 0) return
    const begin = picks.below(rows)
    const end = begin + 1 + picks.below(rows - begin)
    world.add(real.rows(begin, end), model.view(begin * count(rest), [end - begin, ...rest]))
  },

  reshape: (world, picks) => {
    const { real, model } = matrix(world, picks)
    const { C } = world.profile
    const shape = model.shape.length === 2 ? [model.size / C, 1, C] : [model.size / C, C]
    world.add(real.reshape(shape), model.view(0, shape))
  },

  write: (world, picks) => {
    const pair = matrix(world, picks)
    pair.model.overwrite(write(picks, pair), 0, world.noise)
  },

  copyFrom: (world, picks) => {
    const from = matrix(world, picks)
    const to = sameShape(world, picks, from)
    if (to.model.overlaps(from.model) && !to.model.covers(from.model)) {
      world.expectCode('copyFrom a tensor that overlaps', 'ERR_VALUE', () =>
        to.real.copyFrom(from.real),
      )
      return
    }
    to.real.copyFrom(from.real)
    to.model.overwrite(from.model.samples, from.model.faults, world.noise)
  },

  convert: (world, picks) => {
    const { real, model } = matrix(world, picks)
    const dtype = picks.of(floats)
    const copy = ModelTensor.make(model.shape, dtype)
    copy.overwrite(model.samples, model.faults, world.noise)
    world.add(real.to(dtype), copy)
  },

  toAnotherDeviceAndBack: (world, picks) => {
    const { real, model } = matrix(world, picks)
    const copy = ModelTensor.make(model.shape, model.dtype)
    copy.overwrite(model.samples, model.faults, world.noise)
    const there = real.to(world.other)
    world.add(there.to(world.device), copy)
    there.dispose()
  },

  read: (world, picks) => {
    if (world.tensors.length > 0) void world.read('data()', picks.of(world.tensors))
  },

  readAndWait: async (world, picks) => {
    if (world.tensors.length > 0) await world.read('data()', picks.of(world.tensors))
  },

  readBlocking: async (world, picks) => {
    if (world.tensors.length === 0) return
    const { real, model } = picks.of(world.tensors)
    const { samples, faults, dtype } = model
    const call = async () => real.dataSync()
    const data = await world.expectFaults('dataSync()', call(), faults)
    if (data) world.compare('dataSync()', data, samples, dtype)
  },

  // It reports the faults of every program on the device.
  synchronize: async (world) => {
    const exact = world.alone && world.pending === 0
    const faults = world.faults.unreported
    try {
      await world.device.synchronize()
    } catch (error) {
      if (world.alone) world.faults.expect('synchronize()', error, exact ? faults : -1)
      return
    }
    if (exact && faults)
      throw new Difference(`synchronize() resolves after ${world.faults.describe(faults)}`)
  },

  settle: (world) => world.settle(),

  dispose: (world, picks) => {
    if (world.tensors.length === 0) return
    const [{ real }] = world.tensors.splice(picks.below(world.tensors.length), 1) as [Pair]
    real.dispose()
    if (picks.below(4) === 0)
      world.expectCode('use after dispose', 'ERR_DISPOSED', () => real.to('float32'))
  },
}
