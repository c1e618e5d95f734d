export interface Sample {
  name: string
  /** Of the repository, from its root. */
  page: string
  code: string
}
export function samples(): Sample[]
export function snippets(): Sample[]
export function writeSamples(folder: string, programs?: Sample[]): (Sample & { path: string })[]
