import { describeValue, isObject, shorten } from './describe.js'

export { describeValue } from './describe.js'

/** The codes of {@link MemoryLayersError}. */
export type ErrorCode =
  | 'ERR_SHAPE'
  | 'ERR_DTYPE'
  | 'ERR_VALUE'
  | 'ERR_OPTION'
  | 'ERR_INDEX_RANGE'
  | 'ERR_DISPOSED'
  | 'ERR_DEVICE'
  | 'ERR_DEVICE_MISMATCH'
  | 'ERR_CONTEXT'
  | 'ERR_CONFLICT'
  | 'ERR_STATE_DICT'
  | 'ERR_FILE_FORMAT'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_NO_BINARY'
  | 'ERR_UNSUPPORTED'
  | 'ERR_CUDA'
  | 'ERR_DISTRIBUTED'

// The addon throws the class of the copy that was loaded last: a test runner that resets its
// modules loads several.
const brand = Symbol.for('memory-layers.error')

/**
 * The one error this package throws. `code` is stable; the message names the operation, the
 * argument, what it must be, what it is, and a hint. After it nothing has changed: no parameter, no
 * gradient, no file.
 */
export class MemoryLayersError extends Error {
  /** Stable: for programs to compare. */
  readonly code: ErrorCode
  /** Of ERR_CONFLICT: the rows that conflict, ascending. */
  declare readonly rows?: Int32Array
  /** Of ERR_DISTRIBUTED: the rank of the world that it is about, where it is about one. */
  declare readonly rank?: number

  /** @internal */
  constructor(code: ErrorCode, message: string, rank?: number, rows?: Int32Array) {
    super(message)
    this.name = `MemoryLayersError [${code}]`
    this.code = code
    if (rank !== undefined) this.rank = rank
    if (rows !== undefined) this.rows = rows
    Object.defineProperty(this, brand, { value: true })
  }

  /** Errors of every copy of this package in the process. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: subclasses inherit this method
    if (this !== MemoryLayersError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return isObject(value) && brand in value
  }
}

/** Throws `where: "argument" must requirement, got found.` and, on a line of its own, the hint. */
export function fail(
  code: ErrorCode,
  where: string,
  argument: string,
  requirement: string,
  found: unknown,
  hint = '',
): never {
  const text = typeof found === 'string' ? shorten(found) : describeValue(found)
  const message = `${where}: "${argument}" must ${requirement}, got ${text}.`
  throw new MemoryLayersError(code, hint ? `${message}\n  ${hint}` : message)
}

/** Array.isArray, which throws for a Proxy that was revoked. */
export function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value)
  } catch {
    return false
  }
}
