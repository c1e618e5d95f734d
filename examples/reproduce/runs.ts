// Runs that were made, each in a file of its own: a command that was stopped at any point goes on
// with those that are missing.

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Anything that decides the numbers of a run. */
export type RunKey = Record<string, unknown>

export class Runs {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
    mkdirSync(folder, { recursive: true })
  }

  /** What the run of this key found, if it was made. */
  find<T>(key: RunKey): T | undefined {
    try {
      const stored = JSON.parse(readFileSync(this.#path(key), 'utf8'))
      return stored.result as T
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** The result, made now if it was not before. */
  async once<T>(key: RunKey, make: () => Promise<T>): Promise<T> {
    const known = this.find<T>(key)
    if (known !== undefined) return known
    const result = await make()
    const path = this.#path(key)
    const temporary = `${path}.${process.pid}.tmp`
    writeFileSync(temporary, `${JSON.stringify({ key, result }, null, 1)}\n`)
    renameSync(temporary, path)
    return result
  }

  #path(key: RunKey): string {
    const name = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16)
    return join(this.#folder, `${name}.json`)
  }
}
