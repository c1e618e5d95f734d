// Arguments that no function wants.

import fc from 'fast-check'
import { type Device, Tensor } from '../../lib/index.js'

/** A Proxy that throws whatever is asked of it. */
export function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

function nested(depth: number): unknown[] {
  const outer: unknown[] = []
  for (let at = outer, i = 0; i < depth; i++) {
    const inner: unknown[] = []
    at.push(inner)
    at = inner
  }
  return outer
}

/** Objects that lie, end or never end. */
function strange(device: Device): unknown[] {
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const circle: unknown[] = []
  circle.push(circle)
  const detached = new Float32Array(4)
  structuredClone(detached, { transfer: [detached.buffer] })
  const disposed = device.zeros([2, 4])
  disposed.dispose()
  return [
    cycle,
    circle,
    nested(20_000),
    detached,
    disposed,
    revoked({}),
    revoked([]),
    revoked(() => {}),
    new Proxy([1, 2], {
      get: (target, name) => (name === 'length' ? -1 : Reflect.get(target, name)),
    }),
    new Proxy(device.zeros([2, 4]), {}),
    Object.create(Tensor.prototype),
    Object.create(Float32Array.prototype),
    { [Symbol.toStringTag]: 'Int32Array', length: 2, 0: 1 },
    { length: 2, 0: 1, 1: 2 },
    { constructor: { name: Symbol('name') } },
    { constructor: null, toString: null, toJSON: 5 },
    [1n],
    [Symbol('s')],
    Object.assign([], { 1: 1 }),
    new (class Odd {
      lr = 1
    })(),
    new DataView(new ArrayBuffer(8)),
    new BigInt64Array(2),
    new SharedArrayBuffer(8),
    new Date(0),
    new Map([[1, 2]]),
    Promise.resolve(1),
    new WeakRef({}),
    () => {},
    class {},
    'x'.repeat(100_000),
  ]
}

/** Tensors of other shapes and dtypes; none holds an index outside a small table. */
function otherTensors(device: Device): Tensor[] {
  return [
    device.zeros([]),
    device.zeros([0]),
    device.zeros([3]),
    device.zeros([2, 4], 'int32'),
    device.zeros([2, 4], 'int8'),
    device.zeros([4, 4], 'float16'),
    device.zeros([1, 2, 3, 1, 2]),
  ]
}

// Sizes among them are small or refused at once, so that no memory is filled.
const leaves = [
  fc.constantFrom(-1, 0, -0, 1, 2, 3, 0.5, 2 ** 53, 1e300, -1e300, Number.NaN, Infinity, -Infinity),
  fc.constantFrom('', 'x', 'float32', 'softmax', '__proto__', 'constructor', 'length'),
  fc.constantFrom(null, undefined, true, false, 0n, 10n ** 30n, Symbol('s'), Symbol.iterator),
]

/** Any of these; a function gives it, since fast-check looks into values. */
export function junk(device: Device): fc.Arbitrary<() => unknown> {
  const fixed = [...strange(device), ...otherTensors(device)]
  const anything = fc.anything({
    values: leaves,
    maxDepth: 2,
    maxKeys: 3,
    withNullPrototype: true,
    withSparseArray: true,
  })
  return fc.oneof(
    ...leaves.map((leaf) => leaf.map((value) => () => value)),
    { weight: 4, arbitrary: fc.nat(fixed.length - 1).map((i) => () => fixed[i]) },
    anything.map((value) => () => value),
  )
}
