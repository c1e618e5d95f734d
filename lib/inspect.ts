// What the console shows of the objects of this package: one short line each.

/** @internal The method by which Node's console asks an object for its own text. */
export const inspect: unique symbol = Symbol.for('nodejs.util.inspect.custom')

/** @internal A plain object that the console shows by `describe`, unchanged otherwise. */
export function inspectable<T extends object>(object: T, describe: (object: T) => string): T {
  return Object.defineProperty(object, inspect, { value: () => describe(object) })
}
