// Checks of what the user typed. Every public function that takes options refuses an unknown name
// with the nearest known one.

import { isObject, shorten } from './describe.js'
import { describeValue, fail, MemoryLayersError } from './errors.js'
import { maxElements } from './shape.js'

/**
 * Throws ERR_OPTION for a name that is not in `known`. Returns a copy of the options, each read
 * once, or an empty object for undefined.
 */
export function checkOptions<T extends object>(
  where: string,
  options: T,
  known: readonly string[],
  argument?: string,
): T
export function checkOptions<T extends object>(
  where: string,
  options: T | undefined,
  known: readonly string[],
  argument?: string,
): Partial<T>
export function checkOptions<T extends object>(
  where: string,
  options: T | undefined,
  known: readonly string[],
  argument = 'options',
): Partial<T> {
  if (options === undefined) return {}
  if (!isObject(options)) fail('ERR_OPTION', where, argument, 'be an object', options)
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    const nearest = nearestName(name, known)
    const hint = nearest ? `Did you mean "${nearest}"?` : `It takes: ${known.join(', ')}.`
    const message = `${where}: unknown option "${shorten(name)}".\n  ${hint}`
    throw new MemoryLayersError('ERR_OPTION', message)
  }
  const checked: Partial<Record<string, unknown>> = {}
  for (const name of known) {
    const value = (options as Record<string, unknown>)[name]
    if (value !== undefined) checked[name] = value
  }
  return checked as Partial<T>
}

const maxNameLength = 100 // of what is compared with known names

/**
 * The known name with the smallest edit distance, if it is close; among equals, the one that is
 * closer with its capitals, and then the one with the longest common prefix.
 */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  if (name.length > maxNameLength) return undefined
  const maxDistance = Math.max(2, Math.floor(name.length / 3))
  const typed = name.toLowerCase()
  const ranked = known.map((candidate) => {
    const letters = candidate.toLowerCase()
    return {
      candidate,
      distance: editDistance(typed, letters),
      exact: editDistance(name, candidate),
      commonPrefix: [...letters].findIndex((letter, i) => letter !== typed[i]),
    }
  })
  const [best] = ranked.sort(
    (a, b) => a.distance - b.distance || a.exact - b.exact || b.commonPrefix - a.commonPrefix,
  )
  return best && best.distance <= maxDistance ? best.candidate : undefined
}

// Optimal string alignment: letters left out, added, changed, or two neighbours exchanged.
function editDistance(a: string, b: string): number {
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

/** An integer from `min` (default 1) to `max`. */
export function checkInteger(
  where: string,
  name: string,
  value: unknown,
  min = 1,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `from ${min}` : `from ${min} to ${max}`
    fail('ERR_VALUE', where, name, `be an integer ${range}`, value)
  }
  return value
}

/** Where random numbers begin: an integer from 0, or undefined for the next of a counter. */
export function checkSeed(where: string, seed: unknown, name = 'seed'): number | undefined {
  return seed === undefined ? undefined : checkInteger(where, name, seed, 0)
}

/** Options whose product is the size of something, which has a limit. @throws ERR_VALUE */
export function checkProduct(
  where: string,
  sizes: Readonly<Record<string, number>>,
  max = maxElements,
): void {
  const product = Object.values(sizes).reduce((a, b) => a * b, 1)
  if (product <= max) return
  const names = Object.keys(sizes).join(' * ')
  fail('ERR_VALUE', where, names, `be at most ${max}`, Object.values(sizes).join(' * '))
}

/** A finite number, not below `min`. */
export function checkNumber(where: string, name: string, value: unknown, min = -Infinity): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < min) {
    const range = min === -Infinity ? '' : ` from ${min}`
    fail('ERR_VALUE', where, name, `be a finite number${range}`, value)
  }
  return value
}

/** {@link checkNumber} of a number that is still finite as float32, which it becomes. */
export function checkFloat32(where: string, name: string, value: unknown, min = -Infinity): number {
  const number = checkNumber(where, name, value, min)
  if (!Number.isFinite(Math.fround(number)))
    fail('ERR_VALUE', where, name, 'be in the range of float32, 3.4e38', number)
  return number
}

export function checkBoolean(where: string, name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') fail('ERR_VALUE', where, name, 'be true or false', value)
  return value
}

/** The position of `value` among `choices`. */
export function choiceIndex(
  where: string,
  name: string,
  value: unknown,
  choices: readonly string[],
): number {
  const index = typeof value === 'string' ? choices.indexOf(value) : -1
  if (index < 0) {
    const nearest = typeof value === 'string' ? nearestName(value, choices) : undefined
    fail(
      'ERR_VALUE',
      where,
      name,
      `be one of ${choices.map((choice) => `'${choice}'`).join(', ')}`,
      describeValue(value),
      nearest && `Did you mean '${nearest}'?`,
    )
  }
  return index
}

/** One of `choices`; of undefined, the first. */
export function checkChoice<T extends string>(
  where: string,
  name: string,
  value: unknown,
  choices: readonly [T, ...T[]],
): T {
  return choices[value === undefined ? 0 : choiceIndex(where, name, value, choices)] as T
}
