// The target for arguments: a few public calls with arguments from the fuzzer. Each works, or
// throws or rejects with an error that the package documents.

import { join } from 'node:path'
import { Bytes, expectDocumented } from './bytes.mjs'
import { callsOf } from './calls.mjs'
import { hostile, OwnError } from './values.mjs'

const maxCalls = 6

/** The objects that calls choose from, some of them disposed. */
function objects(device, other) {
  const gone = device.zeros([2, 2])
  gone.dispose()
  return {
    device,
    other,
    tensors: [
      device.normal([2, 4], { seed: 1 }),
      device.normal([4, 4], { seed: 2 }),
      device.normal([4], { seed: 3 }),
      device.normal([2, 1, 2, 4], { seed: 4 }),
      device.normal([1, 2, 3, 4], { seed: 5 }),
      device.tensor(Int32Array.of(0, 1, -1, 3), [2, 2]),
      device.zeros([2, 2]),
      device.zeros([4, 4], 'bfloat16'),
      device.zeros([4, 4], 'int8'),
      device.zeros([0, 4]),
      other.zeros([2, 4]),
      gone,
    ],
  }
}

export function argumentTarget(ml, folder) {
  const device = ml.openDevice('cpu', { threads: 1 })
  const other = ml.openDevice('cpu', { threads: 2 })
  const allowed = (error) => {
    if (!(error instanceof OwnError)) expectDocumented(ml, error)
  }

  async function run(call) {
    try {
      const result = await call()
      if (Array.isArray(result)) return result
    } catch (error) {
      allowed(error)
    }
    return []
  }

  return async (data) => {
    const b = new Bytes(data)
    const held = objects(device, other)
    const calls = callsOf(ml, held, join(folder, 'arguments.safetensors'))
    const made = []
    for (let i = 0; i < maxCalls && !b.empty; i++) {
      const call = b.of(calls)
      made.push(...(await run(() => call(b, () => (b.below(8) ? b.of(held.tensors) : hostile(b))))))
    }
    await device.synchronize().catch(allowed)
    for (const t of [...held.tensors, ...made]) t.dispose()
  }
}
