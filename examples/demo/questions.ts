import { type Device, ops } from '../../lib/index.js'
import type { Checkpoint } from './checkpoint.js'
import { countryName, type Facts } from './data.js'
import { encode, width } from './encoder.js'
import { shuffled } from './train.js'

const favourites = [
  'Albuquerque',
  'Reykjavík',
  'Kyoto',
  'Timbuktu',
  'Tromsø',
  'Antananarivo',
  'Salzburg',
  'Dunedin',
  'Valparaíso',
  'Thimphu',
  'Windhoek',
  'Tbilisi',
]

/** A dozen names that were trained on: well-known ones first. */
export function chooseQuestions(facts: Facts): number[] {
  const position = new Map(facts.names.map((name, i) => [name, i]))
  const known = favourites.flatMap((name) => position.get(name) ?? [])
  const rest = shuffled(facts.names.length, 7).filter((i) => !known.includes(i))
  return [...known, ...rest].slice(0, 12)
}

export interface Answer {
  country: string
  /** Probability the model gives it. */
  sure: number
}

/** What both models answer for each name. */
export async function ask(
  device: Device,
  checkpoint: Checkpoint,
  names: readonly string[],
): Promise<Record<'memory' | 'dense', Answer[]>> {
  using x = device.tensor(encode(names, checkpoint.seed), [names.length, width])
  const answers = async (kind: 'memory' | 'dense'): Promise<Answer[]> => {
    using logits = checkpoint.models[kind].infer(x)
    using probabilities = ops.softmax(logits)
    const { values, indices } = ops.topK(probabilities, 1)
    const [sure, best] = [await values.data(), await indices.data()]
    values.dispose()
    indices.dispose()
    return names.map((_, i) => ({
      country: countryName(checkpoint.countries[best[i]!]!),
      sure: sure[i]!,
    }))
  }
  return { memory: await answers('memory'), dense: await answers('dense') }
}
