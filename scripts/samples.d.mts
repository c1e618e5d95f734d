export interface Sample {
  name: string
  /** Of the repository, from its root. */
  page: string
  code: string
}
export function samples(): Sample[]
export function writeSamples(folder: string): (Sample & { path: string })[]
