// What a run that is resumed goes on from beside tensors: positions, and the seeds of what is
// random at them.

import { isObject } from '../describe.js'
import { partsOf } from './parts.js'

/** What has a position to go on from: a {@link TextDataset}, a `Dropout`. */
export interface Resumable {
  /** How much was taken so far. */
  position: number
  /** What the random numbers at a position follow from, where there are any. */
  seed?: number
}

/** @internal */
export function isResumable(object: unknown): object is Resumable {
  return isObject(object) && 'position' in object && typeof object.position === 'number'
}

/** What a position is, and what a seed is. */
export function isPosition(position: unknown): position is number {
  return Number.isSafeInteger(position) && (position as number) >= 0
}

/** A part and what is in it that has a position, by part and name in it. */
export function resumables(part: string, object: unknown): [string, Resumable][] {
  return [...partsOf(object, isResumable)].map(([at, found]) => [
    at ? `${part}.${at}` : part,
    found,
  ])
}

/** Sets all positions, with their seeds, or none. */
export function setPositions(positions: readonly [Resumable, Resumable][]): void {
  const before = positions.map(([resumable, { seed }]): [Resumable, Resumable] => {
    const { position } = resumable
    return [resumable, { position, ...(seed !== undefined && { seed: resumable.seed! }) }]
  })
  try {
    for (const [resumable, found] of positions) Object.assign(resumable, found)
  } catch (error) {
    for (const [resumable, found] of before) Object.assign(resumable, found)
    throw error
  }
}
