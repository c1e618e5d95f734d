import type { Picks, World } from '../world.js'

/** One call, or a few, of the package and of the interpreter. */
export type Step = (world: World, picks: Picks) => void | Promise<void>
