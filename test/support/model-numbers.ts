import type { StateDict } from '../../lib/index.js'
import type { State } from '../reference/transformer.js'

/** The numbers of a model, for the float64 reference. */
export async function stateOfModel(model: { stateDict(): StateDict }): Promise<State> {
  const entries = Object.entries(model.stateDict()).map(
    async ([name, tensor]) => [name, Float64Array.from(await tensor.data())] as const,
  )
  return Object.fromEntries(await Promise.all(entries))
}
