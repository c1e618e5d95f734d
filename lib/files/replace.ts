// A file is replaced whole or not at all: what is written goes to a temporary file beside it, which
// is flushed to the disk and renamed. All that can fail comes before the rename.

import { type BigIntStats, constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { checkRegular, type FileContext, fileError, system, unlessAbsent } from './system.js'
import { resolveTarget, type Target } from './target.js'
import { openTemporary, removeLeftovers, removeTemporary, type Temporary } from './temporary.js'

const permissions = 0o777n

/** Appends bytes to the file. */
export type Append = (bytes: Uint8Array) => Promise<void>

// Files of one path are replaced in the order of the calls, so that the last call wins: paths are
// resolved one after the other, and each then waits for the one before it of the same file.
let resolved: Promise<unknown> = Promise.resolve()
const newest = new Map<string, Promise<void>>()

/**
 * Replaces the file at a path, or makes it, with what `write` appends. A link is followed; owner
 * and permissions of the file that was there are kept, the owner where the system allows it.
 * @throws ERR_VALUE for a path that is no regular file; ERR_FILE_FORMAT with the system's error as
 * its `cause`; what `write` throws. The file is then as it was before.
 */
export async function replaceFile(
  file: FileContext,
  write: (append: Append) => Promise<void>,
): Promise<void> {
  const attempt = <T>(f: () => Promise<T>): Promise<T> =>
    f().catch((error) => {
      throw fileError(file, 'saved', error)
    })
  let finish = (): void => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const path = absolutePath(file)
  const turn = resolved.then(async () => {
    const target = await attempt(() => resolveTarget(file, path))
    const before = newest.get(target.key)
    newest.set(target.key, finished)
    return { target, before }
  })
  resolved = turn.catch(() => {})
  const { target, before } = await turn
  try {
    await before
    await replace(file, target, attempt, write)
  } finally {
    if (newest.get(target.key) === finished) newest.delete(target.key)
    finish()
  }
}

// As it is at the call: the working directory may change. A path is not normalised, since `..`
// after a link is not what was before the link.
function absolutePath(file: FileContext): string {
  try {
    return isAbsolute(file.path) ? file.path : `${process.cwd()}/${file.path}`
  } catch (error) {
    throw fileError(file, 'saved', error)
  }
}

type Attempt = <T>(f: () => Promise<T>) => Promise<T>

async function replace(
  file: FileContext,
  target: Target,
  attempt: Attempt,
  write: (append: Append) => Promise<void>,
): Promise<void> {
  await removeLeftovers(target.folder)
  const folder = await attempt(() => openFolder(target.folder))
  try {
    const path = join(target.folder, target.name)
    const existing = await attempt(() => existingFile(file, path))
    const temporary = await attempt(() => openTemporary(target.folder, existing ? 0o600 : 0o666))
    try {
      await write((bytes) => attempt(() => appendAll(temporary.handle, bytes)))
      await attempt(async () => {
        if (existing) await keepOwnerAndMode(temporary, existing)
        await system.sync(temporary.handle)
        await existingFile(file, path)
        await system.rename(temporary.path, path)
      })
    } catch (error) {
      await removeTemporary(temporary)
      throw error
    }
    // The file is replaced: nothing after this may fail. Some file systems can't flush a folder.
    if (folder) await system.sync(folder).catch(() => {})
    await system.close(temporary.handle).catch(() => {})
  } finally {
    if (folder) await system.close(folder).catch(() => {})
  }
}

/** Opened to be flushed; undefined for a folder that may be written to and not read. */
async function openFolder(path: string): Promise<FileHandle | undefined> {
  try {
    return await system.open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return undefined
    throw error
  }
}

async function existingFile(file: FileContext, path: string): Promise<BigIntStats | undefined> {
  const found = await unlessAbsent(() => system.lstat(path))
  if (found) checkRegular(file, found)
  return found
}

async function appendAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await system.write(handle, bytes, done)
    done += bytesWritten
  }
}

async function keepOwnerAndMode({ handle }: Temporary, existing: BigIntStats): Promise<void> {
  const { uid, gid } = await system.fstat(handle)
  // another's file becomes the writer's own, in its old group if the writer is in it
  const chown = (user: bigint, group: bigint) => system.chown(handle, Number(user), Number(group))
  if (existing.uid !== uid || existing.gid !== gid)
    await chown(existing.uid, existing.gid).catch(() => chown(uid, existing.gid).catch(() => {}))
  const { mode } = await system.fstat(handle)
  const wanted = existing.mode & permissions
  if ((mode & permissions) !== wanted) await system.chmod(handle, Number(wanted))
}
