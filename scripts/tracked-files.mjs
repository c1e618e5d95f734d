// The files of the checkout that git tracks, or would track.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

export function trackedFiles() {
  const options = ['--cached', '--others', '--exclude-standard', '--deduplicate']
  const listed = execFileSync('git', ['ls-files', ...options], { cwd: root, encoding: 'utf8' })
  return listed.split('\n').filter((name) => name && existsSync(root + name))
}
