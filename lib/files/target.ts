// Which file a path to save to means: links are followed, since their target is to be replaced and
// not they.

import type { BigIntStats } from 'node:fs'
import { basename, dirname, isAbsolute, join } from 'node:path'
import { fail } from '../errors.js'
import { checkRegular, type FileContext, system, unlessAbsent } from './system.js'

const maxLinks = 40

/** A file that is there or may be made. */
export interface Target {
  /** Without links. */
  readonly folder: string
  readonly name: string
  /** The same for every spelling of the path. */
  readonly key: string
}

/**
 * Follows the links of an absolute path.
 * @throws ERR_VALUE for a path that is no regular file, and the system's errors
 */
export async function resolveTarget(file: FileContext, path: string): Promise<Target> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    const found = await unlessAbsent(() => system.stat(path))
    if (found) checkRegular(file, found)
    const { target, last } = await followLinks(file, path)
    if (last) checkRegular(file, last)
    if (last || !found) return target
    // it was removed meanwhile, or else is a link of /proc, whose text does not name its file
  }
  fail('ERR_VALUE', file.where, 'path', 'name a file', `"${file.path}", a link to an open file`)
}

async function followLinks(
  file: FileContext,
  path: string,
): Promise<{ target: Target; last: BigIntStats | undefined }> {
  let at = path
  for (let links = 0; links <= maxLinks; links++) {
    // dirname() and basename() overlook it
    if (/(^|\/)\.{0,2}$/.test(at))
      fail('ERR_VALUE', file.where, 'path', 'name a file', `the folder "${at}"`)
    const folder = await system.realpath(dirname(at))
    const name = basename(at)
    const last = await unlessAbsent(() => system.lstat(join(folder, name)))
    if (!last?.isSymbolicLink()) {
      const { dev, ino } = await system.stat(folder)
      return { target: { folder, name, key: `${dev}:${ino}/${name}` }, last }
    }
    const text = await system.readlink(join(folder, name))
    at = isAbsolute(text) ? text : `${folder}/${text}`
  }
  fail('ERR_VALUE', file.where, 'path', `be at most ${maxLinks} links from a file`, file.path)
}
