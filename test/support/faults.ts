import { type Device, ops, type Tensor } from '../../lib/index.js'

/**
 * A tensor `[1, 2]` whose work has a fault that is found late: "indices" holds `index`, which is
 * outside a table of 4 rows. The message names the index, so that tests can tell faults apart.
 */
export function faulty(device: Device, index = 9): Tensor<'float32'> {
  const indices = device.tensor(Int32Array.from([index]), [1, 1])
  return ops.embeddingBag(device.zeros([4, 2]), indices, device.zeros([1, 1]))
}

/** The data of a tensor as numbers. */
export async function numbersOf(tensor: Tensor): Promise<number[]> {
  return Array.from(await tensor.data(), Number)
}

/** Drops what synchronize() has to report. */
export async function reportAll(device: Device): Promise<void> {
  while (await device.synchronize().catch((error) => error));
}
