// Study 1: which system remembers how many facts, at equal multiply-adds a fact.

import type { Device } from '../../lib/index.js'
import { type FactSet, factSet } from './facts.js'
import type { Progress } from './progress.js'
import type { Runs } from './runs.js'
import type { Size } from './sizes.js'
import { ablations, type System, slotSystems, systems } from './systems.js'
import { type Rates, stepsOf, type Trained, train } from './train.js'

/** A system with the rates that were chosen for it, and its run of each seed. */
export interface Measured extends System {
  rates: Rates
  runs: Trained[]
}

export interface FactsOfSet {
  set: FactSet
  systems: Measured[]
  slots: Measured[]
  ablations: Measured[]
}

interface Context {
  device: Device
  runs: Runs
  size: Size
  progress: Progress
}

const tuningShare = 8

export async function studyFacts(context: Context): Promise<FactsOfSet[]> {
  const { size, progress } = context
  const sets = size.sets.map((name) => ({
    set: factSet(name, size.facts),
    part: factSet(name, Math.ceil(Math.min(size.facts, 120_000) / tuningShare)),
  }))
  const compared = systems.filter((s) => !size.only || size.only.includes(s.label))
  for (const { set, part } of sets) {
    const trials = size.grid.length > 1 ? size.grid.length * compared.length : 0
    const extra = size.variants ? slotSystems.length + ablations.length : 0
    const runs = compared.length * size.seeds.length + extra
    progress.expect(trials * steps(part, size) + runs * steps(set, size))
  }
  const results: FactsOfSet[] = []
  for (const { set, part } of sets) results.push(await studySet(context, set, part, compared))
  return results
}

const steps = (set: FactSet, size: Size) => stepsOf(set.answers.length, size)

async function studySet(
  context: Context,
  set: FactSet,
  part: FactSet,
  compared: readonly System[],
): Promise<FactsOfSet> {
  const { size } = context
  const measured: Measured[] = []
  for (const system of compared) {
    const rates = await bestRates(context, part, system)
    measured.push(await measure(context, set, system, rates, size.seeds))
  }
  const { rates } = measured.at(-1)! // of Memory+
  const variants = async (list: readonly System[]) => {
    const found: Measured[] = []
    if (size.variants)
      for (const system of list)
        found.push(await measure(context, set, system, rates, size.seeds.slice(0, 1)))
    return found
  }
  return {
    set,
    systems: measured,
    slots: await variants(slotSystems),
    ablations: await variants(ablations),
  }
}

/** The rates of the grid with the best recall of one seed on an eighth of the facts. */
async function bestRates(context: Context, part: FactSet, system: System): Promise<Rates> {
  const { grid } = context.size
  if (grid.length === 1) return grid[0]!
  let best = { recall: -1, rates: grid[0]! }
  for (const rates of grid) {
    const { points } = await runOnce(context, part, system, rates, 0)
    const { recall } = points.at(-1)!
    if (recall > best.recall) best = { recall, rates }
  }
  return best.rates
}

async function measure(
  context: Context,
  set: FactSet,
  system: System,
  rates: Rates,
  seeds: readonly number[],
): Promise<Measured> {
  const runs: Trained[] = []
  for (const seed of seeds) runs.push(await runOnce(context, set, system, rates, seed))
  return { ...system, rates, runs }
}

async function runOnce(
  { device, runs, size, progress }: Context,
  set: FactSet,
  { label, shape }: System,
  rates: Rates,
  seed: number,
): Promise<Trained> {
  const { epochs, batch } = size
  const facts = set.answers.length
  const key = { study: 'facts', set: set.name, facts, shape, ...rates, epochs, batch, seed }
  progress.name(`${set.name}: ${label}`)
  const known = runs.find<Trained>(key)
  if (known) {
    progress.advance(steps(set, size))
    return known
  }
  const training = { ...rates, epochs, batch, seed }
  return runs.once(key, () => train(device, set, shape, training, () => progress.advance(1)))
}
