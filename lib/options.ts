// Checks of what the user typed. Every public function that takes options refuses an unknown name
// with the nearest known one.

import { describe, fail, MemoryLayersError } from './errors.js'

/**
 * Throws ERR_OPTION for a name that is not in `known`. Returns the options, or an empty object for
 * undefined.
 */
export function options<T extends object>(
  where: string,
  given: T | undefined,
  known: readonly string[],
): Partial<T> {
  if (given === undefined) return {}
  if (
    typeof given !== 'object' ||
    given === null ||
    Array.isArray(given) ||
    ArrayBuffer.isView(given)
  ) {
    fail('ERR_OPTION', where, 'options', 'be an object', given)
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue
    const near = nearest(name, known)
    throw new MemoryLayersError(
      'ERR_OPTION',
      `${where}: unknown option "${name}".${near ? `\n  Did you mean "${near}"?` : `\n  It takes: ${known.join(', ')}.`}`,
    )
  }
  return given
}

/**
 * The known name with the smallest edit distance, if it is close; of equals, the one that begins
 * more alike.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const most = Math.max(2, Math.floor(name.length / 3))
  const typed = name.toLowerCase()
  const ranked = known.map((candidate) => {
    const c = candidate.toLowerCase()
    return {
      candidate,
      distance: edits(typed, c),
      alike: [...c].findIndex((letter, i) => letter !== typed[i]),
    }
  })
  const [best] = ranked.sort((a, b) => a.distance - b.distance || b.alike - a.alike)
  return best && best.distance <= most ? best.candidate : undefined
}

// Letters left out, added, changed, or two exchanged.
function edits(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      const exchange =
        a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before[j - 2] ?? Infinity) + 1 : Infinity
      next[j] = Math.min(change, exchange, row[j]! + 1, next[j - 1]! + 1)
    }
    before = row
    row = next
  }
  return row[b.length]!
}

/** An integer from `least` (default 1) to `most`. */
export function integer(
  where: string,
  name: string,
  value: unknown,
  least = 1,
  most = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    const range =
      most === Number.MAX_SAFE_INTEGER
        ? `an integer from ${least}`
        : `an integer from ${least} to ${most}`
    fail('ERR_VALUE', where, name, `be ${range}`, value)
  }
  return value
}

/** A finite number, not below `least`. */
export function number(where: string, name: string, value: unknown, least = -Infinity): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < least) {
    fail(
      'ERR_VALUE',
      where,
      name,
      least === -Infinity ? 'be a finite number' : `be a finite number from ${least}`,
      value,
    )
  }
  return value
}

export function boolean(where: string, name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') fail('ERR_VALUE', where, name, 'be true or false', value)
  return value
}

/** The position of `value` among `choices`. */
export function choice(
  where: string,
  name: string,
  value: unknown,
  choices: readonly string[],
): number {
  const at = choices.indexOf(value as string)
  if (at < 0) {
    const near = typeof value === 'string' ? nearest(value, choices) : undefined
    fail(
      'ERR_VALUE',
      where,
      name,
      `be one of ${choices.map((c) => `'${c}'`).join(', ')}`,
      describe(value),
      near && `Did you mean '${near}'?`,
    )
  }
  return at
}
