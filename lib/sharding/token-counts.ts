// How many tokens each rank of a group gives to the layers on the tables that it divides.

import type { World } from '../world.js'

const told = new WeakMap<World, readonly number[]>()

/** From here on each rank has so many; undefined: as many as any other. */
export function expectTokens(group: World, counts: readonly number[] | undefined): void {
  if (!counts || counts.every((count) => count === counts[0])) told.delete(group)
  else told.set(group, counts)
}

/** What the ranks have told each other; undefined where all have as many. */
export function tokensOf(group: World): readonly number[] | undefined {
  return told.get(group)
}
