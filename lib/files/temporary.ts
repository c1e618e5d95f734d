// Temporary files. Whoever writes one holds its lock, and the lock ends with the process, however
// it ends: a temporary file that is not locked was left by a process that was killed, and is
// removed by the next save into its folder. A network file system may keep locks within one
// machine, so a file of another machine, or of this one before it was started anew, has to be a day
// old as well.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { system, unlessAbsent } from './system.js'

// .memory-layers-<start of the machine>-<random>.tmp: as long for every target
const pattern = /^\.memory-layers-([0-9a-f]{8})-[0-9a-f]{16}\.tmp$/
const unknownStart = '00000000'
const foreignAge = 24 * 3600 * 1000
const attempts = 16

/** A temporary file that is open and locked. */
export interface Temporary {
  readonly path: string
  readonly handle: FileHandle
}

/** Eight digits that differ for every start of a machine; the same in all its containers. */
async function machineStart(): Promise<string> {
  const id = await system.readFile('/proc/sys/kernel/random/boot_id').catch(() => '')
  return /^[0-9a-f]{8}/.exec(id)?.[0] ?? unknownStart
}

/** A new file in a folder. */
export async function openTemporary(folder: string, mode: number): Promise<Temporary> {
  const start = await machineStart()
  for (let attempt = 1; ; attempt++) {
    const path = join(folder, `.memory-layers-${start}-${randomBytes(8).toString('hex')}.tmp`)
    const temporary = { path, handle: await system.open(path, 'wx', mode) }
    try {
      // between its opening and the lock it may have been taken for one that was left
      const locked = system.lock(temporary.handle) !== false
      if ((locked && (await isAt(temporary))) || attempt === attempts) return temporary
    } catch (error) {
      await removeTemporary(temporary)
      throw error
    }
    await removeTemporary(temporary)
  }
}

async function isAt({ path, handle }: Temporary): Promise<boolean> {
  const found = await unlessAbsent(() => system.lstat(path))
  const own = await system.fstat(handle)
  return found?.ino === own.ino && found.dev === own.dev
}

/** Removes a temporary file as far as it can. */
export async function removeTemporary({ path, handle }: Temporary): Promise<void> {
  await system.unlink(path).catch(() => {})
  await system.close(handle).catch(() => {}) // last: it ends the lock
}

/** Removes the temporary files of processes that were killed. What can't be removed stays. */
export async function removeLeftovers(folder: string): Promise<void> {
  const names = await system.readdir(folder).catch(() => [])
  const left = names.filter((name) => pattern.test(name))
  if (left.length === 0) return
  const start = await machineStart()
  for (const name of left) await removeLeftover(folder, name, start).catch(() => {})
}

async function removeLeftover(folder: string, name: string, start: string): Promise<void> {
  const path = join(folder, name)
  const handle = await openLeftover(path)
  try {
    const info = await system.fstat(handle)
    const [, itsStart] = pattern.exec(name) ?? []
    const ours = itsStart === start && start !== unknownStart
    const old = Date.now() - Number(info.mtimeMs) > foreignAge
    if (info.isFile() && (ours || old) && system.lock(handle)) await system.unlink(path)
  } finally {
    await system.close(handle)
  }
}

// Some file systems lock only what is open for writing; a file may be readable alone.
async function openLeftover(path: string): Promise<FileHandle> {
  const flags = constants.O_NOFOLLOW | constants.O_NONBLOCK
  return system
    .open(path, constants.O_RDWR | flags)
    .catch(() => system.open(path, constants.O_RDONLY | flags))
}
