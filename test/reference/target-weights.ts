// Of c targets that are neither -1 nor ignoreIndex, each weighs 1 / c; the rest are -1 and weigh 0.

export function targetWeights(
  targets: ArrayLike<number>,
  ignoreIndex: number,
): { kept: number[]; weights: number[] } {
  const counts = Array.from(targets, (target) => target !== -1 && target !== ignoreIndex)
  const count = counts.filter(Boolean).length
  return {
    kept: counts.map((c, t) => (c ? targets[t]! : -1)),
    weights: counts.map((c) => (c ? 1 / count : 0)),
  }
}
