// How much of the studies is run.

import type { Rates } from './train.js'

export interface Size {
  name: 'full' | 'quick' | 'sample'
  /** Facts of a set, at most. */
  facts: number
  epochs: number
  batch: number
  seeds: number[]
  sets: ('cities' | 'nouns')[]
  /** Systems by label; all if left out. */
  only?: string[]
  /** Rates that each system is tuned over; one: none is tuned. */
  grid: Rates[]
  /** Recall over slots, and the ablations. */
  variants: boolean
}

/** `lr` and, as its multiple, the rate of tables. */
function grid(rates: number[], multiples: number[]): Rates[] {
  return rates.flatMap((lr) => multiples.map((m) => ({ lr, tableLr: lr * m })))
}

export const sizes: Record<Size['name'], Size> = {
  full: {
    name: 'full',
    facts: Number.POSITIVE_INFINITY,
    epochs: 10,
    batch: 1024,
    seeds: [1, 2, 3],
    sets: ['cities', 'nouns'],
    grid: grid([1e-3, 3e-3, 1e-2], [1, 2, 4]),
    variants: true,
  },
  quick: {
    name: 'quick',
    facts: 6000,
    epochs: 6,
    batch: 128,
    seeds: [1, 2],
    sets: ['cities', 'nouns'],
    grid: grid([1e-3, 3e-3], [1, 4]),
    variants: true,
  },
  sample: {
    name: 'sample',
    facts: 1500,
    epochs: 8,
    batch: 64,
    seeds: [1],
    sets: ['cities'],
    only: ['dense', 'dense x4', 'Memory+'],
    grid: grid([3e-3], [2]),
    variants: false,
  },
}
