// What the ranks of a run must have in common, before its first step.

import { native } from '../binding.js'
import type { Device } from '../device.js'
import { MemoryLayersError } from '../errors.js'
import { distinctParameters } from '../parameter-groups.js'
import { Tensor } from '../tensor.js'
import type { World } from '../world.js'
import type { CheckedFit, Trainable } from './fit-options.js'

const where = 'fit'

/** @throws ERR_DISTRIBUTED, with the `rank` that has other parameters, numbers or options */
export async function checkRanks<T, U>(
  world: World,
  model: Trainable<T, U>,
  { steps, accumulate, clip, every, checkpoint }: CheckedFit,
  device: Device,
): Promise<void> {
  const { dense, tables } = distinctParameters(where, model.parameters())
  const shapes = [
    ...dense.map(({ name, value }) => [name, ...value.shape]),
    ...tables.map(({ name, table }) => [name, table.slots, table.dim, table.dtype]),
  ]
  await world.expectSame('the model', JSON.stringify(shapes))
  const options = { steps, accumulate, clip, every, checkpoint: checkpoint?.every }
  await world.expectSame('the options of fit', JSON.stringify(options))
  const whole = tables.filter(({ table }) => !table.shard && table.dtype === 'float32')
  const numbers = [...dense, ...whole].map(({ name, value }) => value.handle(where, name))
  const squares = new Tensor<'int32'>(device, native.gradientSquares(device.handle, numbers, []))
  const all = await world.exchange(Array.from(await squares.data()))
  squares.dispose()
  const other = all.findIndex((bits) => String(bits) !== String(all[0]))
  if (other < 0) return
  const hint = 'Give the models of all ranks the same seed, or load the same checkpoint.'
  const sentence = `${where}: the model of rank ${other} has other numbers than that of rank 0`
  throw new MemoryLayersError('ERR_DISTRIBUTED', `${sentence}.\n  ${hint}`, other)
}
