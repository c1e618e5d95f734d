// Steps with indices: sound ones, and ones that only the device can find to be wrong.

import { ops } from '../../../../lib/index.js'
import {
  embeddingBag,
  embeddingBagBackward,
  fixedOffsets,
} from '../../../reference/embedding-bag.js'
import { integers, uniform } from '../../../support/random.js'
import { exactly, type Samples } from '../model/samples.js'
import { ModelTensor } from '../model/tensor.js'
import type { Pair, Picks, World } from '../world.js'
import type { Step } from './step.js'
import { matrix, sameShape } from './tensors.js'

const L = 2

/** The index tensors `[T, L]`, of any T. */
function indexTensors(world: World): Pair[] {
  return world.tensors.filter((p) => p.model.dtype === 'int32')
}

function newIndices(world: World, picks: Picks, bad: boolean): Pair {
  const T = 1 + picks.below(world.profile.T)
  const data = integers(T * L, -1, 2, picks.below(1 << 16))
  if (bad) data[picks.below(data.length)] = world.faults.newValue()
  const model = ModelTensor.make([T, L], 'int32').setExactly(data)
  return world.add(world.device.tensor(data, [T, L]), model)
}

export function indices(world: World, picks: Picks): Pair {
  const choices = indexTensors(world)
  return choices.length > 0 ? picks.of(choices) : newIndices(world, picks, false)
}

/** An index outside a table of `slots` rows, if there is one. */
export function badIndex({ model }: Pair, slots: number): number | undefined {
  return model.samples[0]!.find((i) => i < -1 || i >= slots)
}

/**
 * The faults of work that reads a table of `slots` rows by these indices: those of what it reads,
 * else a new one if an index is outside the table.
 */
export function faultsOf(
  world: World,
  inputs: readonly ModelTensor[],
  index: Pair,
  slots: number,
): number {
  const faults = inputs.reduce((bits, t) => bits | t.faults, index.model.faults)
  const bad = badIndex(index, slots)
  return faults || bad === undefined ? faults : world.faults.add(bad)
}

/** A table `[rows, C]`, indices `[T, L]` and weights for them. */
function bag(world: World, picks: Picks) {
  const table = matrix(world, picks)
  const index = indices(world, picks)
  const [T = 0] = index.model.shape
  const data = uniform(T * L, picks.below(1 << 16))
  return { table, index, T, weights: world.device.tensor(data, [T, L]), data: exactly(data) }
}

function wholeNumbers(samples: Samples): Samples {
  return samples.map((s) => s.map(Math.round))
}

export const bagSteps: Record<string, Step> = {
  indices: (world, picks) => void newIndices(world, picks, false),

  badIndices: (world, picks) => {
    if (!world.faults.full) newIndices(world, picks, true)
  },

  overwriteIndices: (world, picks) => {
    const { real, model } = indices(world, picks)
    const data = integers(model.size, -1, 2, picks.below(1 << 16))
    real.write(data)
    model.overwrite(exactly(data), 0, world.noise)
  },

  badIndicesInNumbers: (world, picks) => {
    const { table, T, weights } = bag(world, picks)
    if (table.model.shape.length === 2)
      world.expectCode('a bag of numbers outside the table', 'ERR_INDEX_RANGE', () =>
        ops.embeddingBag(table.real, new Int32Array(T * L).fill(99), weights),
      )
    weights.dispose()
  },

  embeddingBag: (world, picks) => {
    const { table, index, T, weights, data } = bag(world, picks)
    const { C } = world.profile
    if (table.model.shape.length !== 2 || world.faults.full) return
    const faults = faultsOf(world, [table.model], index, table.model.shape[0]!)
    const model = ModelTensor.make([T, C], 'float32')
    const read = index.model.samples
    const value = faults
      ? []
      : world.noise.map([table.model.samples, data], (t, w) =>
          embeddingBag(t!, C, { indices: read[0]!, weights: w!, offsets: fixedOffsets(T, L) }),
        )
    model.overwrite(value, faults, world.noise)
    world.add(ops.embeddingBag(table.real, index.real, weights), model)
    weights.dispose()
  },

  embeddingBagBackward: (world, picks) => {
    const { table, index, T, weights, data } = bag(world, picks)
    const { C } = world.profile
    const dy = sameShape(world, picks, matrix(world, picks, 'float32'), 'float32')
    if (table.model.shape.length !== 2 || world.faults.full) return
    if (dy.model.shape.join() !== `${T},${C}`) return
    const slots = table.model.shape[0]!
    const bad = badIndex(index, slots) !== undefined
    if (bad) return // two native operations may both find it: embeddingBag covers faults
    const { dWeights, dTable } = ops.embeddingBagBackward(dy.real, table.real, index.real, weights)
    const dense = dTable.toDense()
    dTable.dispose()
    const [ofWeights, ofTable] = [
      dy.model.faults | table.model.faults | index.model.faults,
      dy.model.faults | index.model.faults,
    ]
    const bags = { indices: wholeNumbers(index.model.samples)[0]!, offsets: fixedOffsets(T, L) }
    const inputs = [dy.model.samples, table.model.samples, data]
    const [dw, dt] = world.noise.mapAll(inputs, (dy, t, w) => {
      const g = embeddingBagBackward(dy!, t!, C, { ...bags, weights: w! })
      return [g.dWeights, g.dTable]
    })
    const weightsModel = ModelTensor.make([T, L], 'float32')
    weightsModel.overwrite(dw!, ofWeights, world.noise)
    const tableModel = ModelTensor.make([slots, C], 'float32')
    tableModel.overwrite(dt!, ofTable, world.noise)
    world.add(dense, tableModel)
    void world.read('dWeights', { real: dWeights, model: weightsModel })
    dWeights.dispose()
    weights.dispose()
  },
}
