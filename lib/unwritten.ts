// Reads in two steps, such as a number of rows and then the rows, of a tensor as it is at one time.

import { native, type TensorHandle } from './binding.js'

/**
 * Awaits `first`, then calls `then` with what it found, which must enqueue its own reads before it
 * returns: anew until nothing was written to the tensor in between.
 */
export async function readUnwritten<T, R>(
  tensor: TensorHandle,
  first: () => Promise<T>,
  then: (found: T) => R | Promise<R>,
): Promise<R> {
  for (;;) {
    const writes = native.tensorWrites(tensor)
    const found = await first()
    if (!native.tensorWrittenSince(tensor, writes)) return then(found)
  }
}
