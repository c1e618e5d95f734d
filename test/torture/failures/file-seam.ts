// The package's calls on files go through one object, whose functions are made to fail here as the
// system may: with another error for each n.

import { system } from '../../../lib/files/system.js'
import type { Seam } from './each.js'

const errors = [
  { code: 'EIO', errno: -5 },
  { code: 'ENOSPC', errno: -28 },
  { code: 'EMFILE', errno: -24 },
  { code: 'EACCES', errno: -13 },
]

let calls = 0
let failing = Infinity

type Functions = Record<string, (...args: never[]) => unknown>

function fail(syscall: string): Error {
  const { code, errno } = errors[failing % errors.length]!
  return Object.assign(new Error(`${code}: made to fail, ${syscall}`), { code, errno, syscall })
}

const functions = system as unknown as Functions
for (const [name, original] of Object.entries(functions)) {
  functions[name] = (...args) => {
    if (calls++ !== failing) return original(...args)
    if (name.endsWith('Sync')) throw fail(name)
    if (name === 'lock') return undefined // a file system without locks
    if (name === 'close') {
      // The file is closed, and an error is reported all the same.
      return Promise.resolve(original(...args)).then(() => Promise.reject(fail(name)))
    }
    return Promise.reject(fail(name))
  }
}

export const fileSeam: Seam = {
  name: 'file calls',
  codes: ['ERR_FILE_FORMAT', 'ERR_VALUE'],
  failAfter(after) {
    calls = 0
    failing = after
  },
  stop() {
    failing = Infinity
    return calls
  },
}
