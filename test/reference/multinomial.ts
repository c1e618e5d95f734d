// Samples of softmax(logits / temperature), in float64, with the random numbers of the operation.

import { randomWords } from './philox.js'

export interface Sampling {
  temperature: number
  topK: number
  topP: number
  samples: number
  seed: number
  step: number
}

/** What may be drawn of a row, largest first, ties by index, with its weight. */
export function choices(
  row: ArrayLike<number>,
  { temperature, topK, topP }: Pick<Sampling, 'temperature' | 'topK' | 'topP'>,
): { index: number; weight: number }[] {
  const all = Array.from(row, (value, index) => ({ value, index }))
    .filter(({ value }) => value > -Infinity)
    .sort((a, b) => (a.value === b.value ? a.index - b.index : b.value > a.value ? 1 : -1))
  const max = all[0]?.value ?? 0
  if (temperature === 0) return all.slice(0, 1).map(({ index }) => ({ index, weight: 1 }))
  const kept = all
    .slice(0, topK)
    .map(({ value, index }) => ({
      index,
      weight: value === max ? 1 : Math.exp((value - max) / temperature),
    }))
    .filter(({ weight }) => weight > 2 ** -40)
  const total = kept.reduce((sum, { weight }) => sum + weight, 0)
  if (topP === 1) return kept
  return kept.slice(0, firstIndex(kept, (sum) => sum >= topP * total) + 1)
}

/** The first index at which the sum of the weights up to there is as wanted. */
function firstIndex(list: readonly { weight: number }[], wanted: (sum: number) => boolean): number {
  let sum = 0
  return list.findIndex(({ weight }) => {
    sum += weight
    return wanted(sum)
  })
}

export function multinomial(logits: ArrayLike<number>, n: number, s: Sampling): number[] {
  const out: number[] = []
  for (let row = 0; row * n < logits.length; row++) {
    const values = Array.from({ length: n }, (_, i) => logits[row * n + i]!)
    const left = choices(values, s).sort((a, b) => a.index - b.index)
    const total = left.reduce((sum, { weight }) => sum + weight, 0)
    for (let sample = 0; sample < s.samples; sample++) {
      const words = randomWords((BigInt(row) << 32n) | BigInt(sample), s.seed, s.step, 2)
      const target = (words[0] / 2 ** 32 + words[1] / 2 ** 64) * total
      out.push(left[firstIndex(left, (sum) => sum > target)]?.index ?? -1)
    }
  }
  return out
}
