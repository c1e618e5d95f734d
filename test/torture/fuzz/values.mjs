// Arguments for the fuzzer: those that a program would give, and hostile ones of every kind.

/** What a getter or a proxy of these arguments throws: the package passes it on. */
export class OwnError extends Error {}

// No size between these: a call may take memory, but not for seconds.
const sizes = [0, 1, 2, 3, 4, 5, 8, 17]
const numbers = [...sizes, -1, 0.5, -0.5, 1e-40, 1e38, 1e308, NaN, Infinity, -Infinity]
const huge = [2 ** 36, 2 ** 50, 2 ** 52, 2 ** 53, 2 ** 63, -(2 ** 31), -(2 ** 53), 1.7e308]
const strings = ['', 'cpu', 'float32', 'float16', 'bfloat16', 'int32', 'int8', 'uint8', 'softmax']
const odd = ['silu', 'none', 'rms', 'lazy', 'dense', '__proto__', 'constructor', 'x'.repeat(999)]
const arrays = [
  Float32Array,
  Float64Array,
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  BigInt64Array,
  BigUint64Array,
]
const dtypes = strings.slice(2, 8)

export function number(b) {
  return b.of(b.below(8) ? numbers : huge)
}

export function shape(b) {
  const sizesOf = () => (b.below(16) ? b.of(sizes) : b.of(huge))
  return Array.from({ length: b.of([1, 2, 2, 2, 3, 4, 0, 6, 7]) }, sizesOf)
}

function buffer(b, bytes) {
  switch (b.below(12)) {
    case 0:
      return new SharedArrayBuffer(bytes)
    case 1:
      return new ArrayBuffer(bytes, { maxByteLength: 2 * bytes + 8 })
    default:
      return new ArrayBuffer(bytes)
  }
}

export function typedArray(b, length = b.of(sizes)) {
  const Type = b.below(2) ? Float32Array : b.of(arrays)
  const array = new Type(buffer(b, length * Type.BYTES_PER_ELEMENT))
  const fill = b.byte()
  for (let i = 0; i < length && i < 32; i++)
    array[i] = typeof array[0] === 'bigint' ? BigInt(fill) : fill * (i + 1)
  if (b.below(32) === 0 && array.buffer instanceof ArrayBuffer)
    structuredClone(0, { transfer: [array.buffer] })
  return array
}

/** An array that changes another's memory while it is read. */
function evilShape(b, victim) {
  const list = shape(b)
  Object.defineProperty(list, 0, {
    enumerable: true,
    get() {
      try {
        if (victim.buffer.resizable) victim.buffer.resize(0)
        else structuredClone(0, { transfer: [victim.buffer] })
      } catch {} // it is detached, or shared
      return victim.length || 1
    },
  })
  return list
}

/** Data and its shape: they fit, they do not, or the shape spoils the data. */
export function dataAndShape(b) {
  const wanted = shape(b).slice(0, 3)
  const length = wanted.reduce((a, n) => a * n, 1)
  const data = typedArray(b, length >= 0 && length < 1024 ? length : 4)
  const evil = b.below(16) === 0
  return [
    b.below(8) ? data : hostile(b),
    evil ? evilShape(b, data) : b.below(8) ? wanted : hostile(b),
  ]
}

export function dtype(b) {
  return b.below(8) ? b.of(dtypes) : hostile(b)
}

/** Options with these names and values of any kind. */
export function options(b, names) {
  if (b.below(16) === 0) return hostile(b)
  const result = {}
  for (const [name, make] of Object.entries(names)) {
    const choice = b.below(8)
    if (choice === 0) continue
    if (choice === 1) result[name] = hostile(b)
    else if (choice === 2)
      Object.defineProperty(result, name, { enumerable: true, get: () => hostile(b) })
    else result[name] = make(b)
  }
  if (b.below(32) === 0) result[b.of(odd)] = hostile(b)
  return result
}

/** Anything at all. */
export function hostile(b, depth = 0) {
  switch (b.below(depth < 3 ? 20 : 13)) {
    case 0:
      return undefined
    case 1:
      return null
    case 2:
      return b.of([true, false])
    case 3:
      return Symbol('s')
    case 4:
      return BigInt(b.byte())
    case 5:
      return () => hostile(b, 3)
    case 6:
      return b.of(strings)
    case 7:
      return b.of(odd)
    case 8:
      return b.of(huge)
    case 9:
    case 10:
      return number(b)
    case 11:
      return typedArray(b)
    case 12:
      return new DataView(new ArrayBuffer(8))
    case 13:
      return new Array(b.below(9)) // of holes
    case 14:
      return Object.create(null)
    case 15:
      return thrower(b)
    case 16:
      return cycle(b)
    case 17:
      return shape(b)
    default:
      return Array.from({ length: b.below(4) }, () => hostile(b, depth + 1))
  }
}

function thrower(b) {
  const fail = () => {
    throw new OwnError('from an argument')
  }
  return b.below(2)
    ? new Proxy({}, { get: fail, ownKeys: fail, has: fail, getPrototypeOf: fail })
    : {
        get shape() {
          return fail()
        },
        get length() {
          return fail()
        },
        valueOf: fail,
        toString: fail,
      }
}

function cycle(b) {
  const list = [b.byte()]
  list.push(list, { list })
  return list
}
