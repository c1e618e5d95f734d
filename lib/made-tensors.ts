// Which tensors a piece of code makes, and which objects with memory beside them, so that they can
// be disposed if it fails.

import { capturing, refuseInCapture } from './capturing.js'
import type { Device } from './device.js'
import type { Tensor } from './tensor.js'

/** The method by which an object tells the tensors that belong to it. */
export const ownTensors: unique symbol = Symbol('tensors')

let made: Tensor[] | undefined

/** Every tensor tells that it was made. */
export function noteTensor(tensor: Tensor): void {
  made?.push(tensor)
  capturing(tensor.device)?.made.add(tensor)
}

/** Why no parameter is made in a capture: each replay would make it anew. */
export const makesParameters = ['it makes parameters', 'Make them before the capture.'] as const

let owners: { dispose(): void }[] | undefined

/** Every layer and table, which hold more memory than their tensors', tells that it was made. */
export function noteOwner(owner: { dispose(): void; device: Device }): void {
  refuseInCapture(`new ${owner.constructor.name}`, owner.device, ...makesParameters)
  owners?.push(owner)
}

/** As {@link collectTensors}, of layers and tables. */
export function collectOwners(list: { dispose(): void }[]): () => void {
  const outer = owners
  owners = list
  return () => {
    owners = outer
    outer?.push(...list)
  }
}

/**
 * Adds every tensor that is made from now on to `list`, until the function that is returned is
 * called; a list that was given before gets them then.
 */
export function collectTensors(list: Tensor[]): () => void {
  const outer = made
  made = list
  return () => {
    made = outer
    for (const t of list) outer?.push(t)
  }
}
