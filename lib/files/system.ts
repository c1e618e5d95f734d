// The system's file functions. All files of the package go through the object `system`, so that a
// test can make any call fail; their errors become MemoryLayersErrors here.

import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
} from 'node:fs'
import {
  copyFile,
  type FileHandle,
  link,
  lstat,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  stat,
  unlink,
} from 'node:fs/promises'
import { getSystemErrorMap } from 'node:util'
import { native } from '../binding.js'
import { quotePath } from '../describe.js'
import { fail, MemoryLayersError } from '../errors.js'

/** The functions of `node:fs` that are used, and the lock of an open file. */
export const system = {
  open,
  lstat: (path: string) => lstat(path, { bigint: true }),
  stat: (path: string) => stat(path, { bigint: true }),
  fstat: (file: FileHandle) => file.stat({ bigint: true }),
  read: (file: FileHandle, target: Uint8Array, begin: number, position: number) =>
    file.read(target, begin, target.length - begin, position),
  write: (file: FileHandle, source: Uint8Array, begin: number) =>
    file.write(source, begin, source.length - begin),
  sync: (file: FileHandle) => file.sync(),
  chmod: (file: FileHandle, mode: number) => file.chmod(mode),
  chown: (file: FileHandle, user: number, group: number) => file.chown(user, group),
  close: (file: FileHandle) => file.close(),
  /** Whether the lock was taken; undefined where the file system has none. */
  lock: (file: FileHandle) => native.fileLock(file.fd),
  readFile: (path: string) => readFile(path, 'utf8'),
  readdir: (path: string) => readdir(path),
  readlink: (path: string) => readlink(path),
  realpath: (path: string) => realpath(path),
  rename,
  unlink,
  link,
  copyFile,
  /** With the folders above it; one that is there stays. */
  mkdirSync: (path: string) => void mkdirSync(path, { recursive: true }),
  statSync: (path: string) => statSync(path, { bigint: true }),
  openSync,
  fstatSync: (file: number) => fstatSync(file, { bigint: true }),
  readSync,
  closeSync,
}

/** What a call does with which file: the beginning of every message. */
export interface FileContext {
  /** The public call. */
  where: string
  /** As the caller wrote it. */
  path: string
}

const hints: Record<string, string> = {
  ENOENT: 'Check the path and that its folder exists; relative paths begin at process.cwd().',
  EACCES: 'Check the permissions of the file and of its folder.',
  EPERM: 'Check the permissions of the file and of its folder.',
  EROFS: 'The file system is read only.',
  EBUSY: 'It may be a mount point, which can not be replaced: save to another name.',
  EMFILE: 'Close files that are no longer needed, or raise the limit (ulimit -n).',
  ENFILE: 'The machine has too many files open.',
  ENOSPC: 'Free space on the file system.',
  EDQUOT: 'Free space within the quota.',
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && typeof error['syscall'] === 'string'
}

/** ERR_FILE_FORMAT for an error of the system, which is its `cause`; others as they are. */
export function fileError({ where, path }: FileContext, verb: string, cause: unknown): unknown {
  if (!isSystemError(cause)) return cause
  const reason = getSystemErrorMap().get(cause.errno ?? 0)?.[1] ?? cause.message
  const call = `(${cause.code}, ${cause.syscall})`
  const text = `${where}: ${quotePath(path)} can't be ${verb}: ${reason} ${call}.`
  const hint = hints[cause.code ?? '']
  const error = new MemoryLayersError('ERR_FILE_FORMAT', hint ? `${text}\n  ${hint}` : text)
  error.cause = cause
  return error
}

/** The path that a user gave. @throws ERR_VALUE */
export function checkPath(where: string, path: unknown, name = 'path'): string {
  if (typeof path !== 'string') fail('ERR_VALUE', where, name, 'be a string', path)
  if (path === '') fail('ERR_VALUE', where, name, 'name a file', '""')
  if (path.includes('\0'))
    fail('ERR_VALUE', where, name, 'not contain NUL', JSON.stringify(path.slice(0, 80)))
  return path
}

/** Whether an error says that there is no such file. */
export function isAbsent(error: unknown): boolean {
  return isSystemError(error) && error.code === 'ENOENT'
}

/** The value of `f`, or undefined where it says that there is no such file. */
export async function unlessAbsent<T>(f: () => Promise<T>): Promise<T | undefined> {
  try {
    return await f()
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** Throws ERR_VALUE for what is no regular file: a folder, FIFO, socket or device. */
export function checkRegular({ where, path }: FileContext, found: BigIntStats): void {
  if (found.isFile()) return
  const kind = found.isDirectory()
    ? 'a folder'
    : found.isFIFO()
      ? 'a FIFO'
      : found.isSocket()
        ? 'a socket'
        : found.isSymbolicLink()
          ? 'a link'
          : 'a device'
  fail('ERR_VALUE', where, 'path', `name a regular file`, `${kind} at ${quotePath(path)}`)
}

/** Opening never waits: a FIFO without a writer would. */
export const readFlags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY
