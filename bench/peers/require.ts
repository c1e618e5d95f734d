// Peers are installed in a folder of their own, by `npm run bench:peers`, or not at all.

import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

/**
 * The package, or undefined where it is not installed. Any other failure to load it is an error.
 */
export function requirePeer<T>(name: string): T | undefined {
  try {
    require.resolve(`${name}/package.json`)
  } catch {
    return undefined
  }
  return require(name) as T
}

export const peerVersion = (name: string): string =>
  (require(`${name}/package.json`) as { version: string }).version
