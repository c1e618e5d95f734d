// No memory, no threads: each call that fails has a code, changes nothing, and the next one works.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import {
  AdamW,
  type DeviceName,
  type ErrorCode,
  MemoryLayer,
  MemoryLayersError,
  openDevice,
  ops,
  RowwiseAdagrad,
  ValueTable,
} from '../lib/index.js'
import { FeedForward, Linear } from '../lib/nn/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { type FailureKind, failNext, failureCalls, stopFailing } from './support/failures.js'
import { reportAll } from './support/faults.js'
import { settledMemory } from './support/garbage.js'
import { valuesOf } from './support/layers.js'

const kinds: readonly FailureKind[] = ['allocation', 'malloc', 'thread', 'file', 'cuda']
afterEach(() => kinds.forEach(stopFailing))

/**
 * Runs `act` with its first, second, … call of the kind failing, or as many as `times` from there
 * on, until none is left; after each `check` runs without failures. Returns how many runs failed.
 */
async function forEveryFailure(
  kind: FailureKind,
  codes: readonly ErrorCode[],
  act: () => unknown,
  check: () => unknown = () => {},
  times = 1,
): Promise<number> {
  let failed = 0
  for (let n = 0; ; n++) {
    failNext({ kind, after: n, times })
    let error: unknown
    try {
      await act()
    } catch (e) {
      error = e
    }
    const reached = failureCalls(kind) > n
    stopFailing(kind)
    if (error !== undefined) {
      expect(error).toBeInstanceOf(MemoryLayersError)
      expect(codes, String(error)).toContain((error as MemoryLayersError).code)
      // in the device's own threads nobody knows the name of the call
      expect(String(error)).toMatch(/^MemoryLayersError \[\w+\]: ([\w.]+: |no memory)/)
      failed++
    }
    await check()
    if (!reached) {
      expect(error).toBeUndefined()
      return failed
    }
  }
}

onEveryDevice((device) => {
  const noMemory: ErrorCode[] = ['ERR_OUT_OF_MEMORY']
  const x = device.tensor([1, 2, 3, 4], [2, 2])
  const y = device.tensor([10, 20, 30, 40], [2, 2])
  const unchanged = async () => {
    expect(Array.from(await x.data())).toEqual([1, 2, 3, 4])
    expect(Array.from(await y.data())).toEqual([10, 20, 30, 40])
  }

  test.each(['malloc', 'allocation'] as const)('any %s of an operation may fail', async (kind) => {
    const failed = await forEveryFailure(
      kind,
      noMemory,
      async () => {
        using sum = ops.add(x, y)
        expect(Array.from(await sum.data())).toEqual([11, 22, 33, 44])
      },
      unchanged,
    )
    expect(failed).toBeGreaterThan(0)
  })

  test.each(['malloc', 'allocation'] as const)('any %s of the factories may fail', async (kind) => {
    const before = device.memory().allocated
    const failed = await forEveryFailure(
      kind,
      noMemory,
      async () => {
        device.zeros([3]).dispose()
        device.normal([3], { seed: 1 }).dispose()
        device.tensor([1, 2], [2], 'float16').dispose()
        x.reshape([4]).dispose()
        x.to('bfloat16').dispose()
        await device.synchronize()
      },
      () => expect(device.memory().allocated).toBe(before),
    )
    expect(failed).toBeGreaterThan(kind === 'malloc' ? 10 : 4)
    await unchanged()
  })

  test('any malloc of a call with many arguments may fail', async () => {
    const qkv = () => device.normal([1, 2, 1, 4], { seed: 1 })
    const [q, k, v, dy] = [qkv(), qkv(), qkv(), qkv()]
    const { y, lse } = ops.attention(q, k, v)
    const backward = () => ops.attentionBackward(dy, { q, k, v, y, lse })
    const wanted = Array.from(await backward().dq.data())
    await forEveryFailure('malloc', noMemory, async () => {
      const { dq, dk, dv } = backward()
      expect(Array.from(await dq.data())).toEqual(wanted)
      for (const t of [dq, dk, dv]) t.dispose()
    })
    await reportAll(device) // of what was disposed unread
  })

  test('what a module has saved is freed, whichever malloc fails', async () => {
    using model = new FeedForward(device, { dim: 4, hiddenDim: 3 })
    const input = device.normal([2, 4], { seed: 1 })
    const before = await settledMemory(device)
    const failed = await forEveryFailure(
      'malloc',
      noMemory,
      () => {
        const { output, context } = model.forward(input)
        using _y = output
        using _saved = context
        model.backward(context, input).dispose()
      },
      async () => {
        await reportAll(device)
        expect(device.memory().allocated).toBe(before)
        const { output, context } = model.forward(input)
        output.dispose()
        model.backward(context, input).dispose()
        await device.synchronize()
        expect(device.memory().allocated).toBe(before)
      },
    )
    expect(failed).toBeGreaterThan(5)
    input.dispose()
  })

  test('any malloc of a read, a write or a wait may fail', async () => {
    const failed = await forEveryFailure(
      'malloc',
      noMemory,
      async () => {
        x.write([1, 2, 3, 4])
        await x.data()
        x.dataSync()
        await device.synchronize()
      },
      async () => {
        x.write([1, 2, 3, 4]) // void where its write has found no memory on its way
        await unchanged()
      },
    )
    expect(failed).toBeGreaterThan(3)
  })

  test('dispose() needs no memory', async () => {
    const options = { inputDim: 4, heads: 1, knn: 2, nKeys: 2, keyDim: 4 }
    await device.synchronize()
    const before = device.memory().allocated
    const layer = new MemoryLayer(device, options)
    const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
    const tensors = Array.from({ length: 100 }, (_, i) => device.zeros([i + 1]))
    const gradient = layer.values.gradient()
    const input = device.zeros([2, 4])
    const { output, context } = layer.forward(input)
    // The last call took what had been set aside for handles.
    failNext({ kind: 'malloc', times: 1e9 })
    for (const d of [context, output, gradient, input, ...tensors, optimizer, layer]) d.dispose()
    stopFailing('malloc')
    // Work that was still to be launched may have found no memory.
    await device.synchronize().catch(() => {})
    expect(device.memory().allocated).toBeLessThanOrEqual(before)
  })

  describe('a call that fails keeps none of its results', () => {
    const table = device.normal([4, 2], { seed: 1 })
    const indices = device.tensor(Int32Array.of(0, 1, 2, 3), [2, 2])
    const weights = device.normal([2, 2], { seed: 2 })
    const dy = device.normal([2, 2], { seed: 3 })
    const parameters = new Linear(device, { inputDim: 2, outputDim: 2 }).parameters()
    const values = new ValueTable(device, { slots: 4, dim: 2, dtype: 'bfloat16' })
    const trained = [
      ...parameters,
      { name: 'table', kind: 'table' as const, value: values.weight, table: values },
    ] as ConstructorParameters<typeof AdamW>[0]
    const options = { inputDim: 2, heads: 1, knn: 2, nKeys: 2, keyDim: 4 }
    new AdamW(trained, { lr: 1 }).dispose() // the table has its exact values
    const makers: Record<string, () => readonly Disposable[]> = {
      embeddingBagBackward: () => {
        const gradients = ops.embeddingBagBackward(dy, table, indices, weights)
        return [gradients.dWeights, gradients.dTable]
      },
      AdamW: () => [new AdamW(trained, { lr: 1 })],
      RowwiseAdagrad: () => [new RowwiseAdagrad(trained, { lr: 1 })],
      MemoryLayer: () => [new MemoryLayer(device, options)],
    }
    for (const kind of ['malloc', 'allocation'] as const)
      test.each(Object.entries(makers))(`${kind} in %s`, async (_, make) => {
        await device.synchronize()
        const before = device.memory().allocated
        const failed = await forEveryFailure(
          kind,
          noMemory,
          () => {
            for (const made of make()) made[Symbol.dispose]()
          },
          async () => {
            await device.synchronize().catch(() => {})
            expect(device.memory().allocated).toBeLessThanOrEqual(before)
          },
        )
        expect(failed).toBeGreaterThan(3)
      })
  })

  test('a batch ends also where there is no memory at all', async () => {
    const linear = new Linear(device, { inputDim: 2, outputDim: 2 })
    const failed = await forEveryFailure(
      'malloc',
      noMemory,
      () => {
        const { output, context } = linear.forward(x)
        using _output = output
        using _context = context
        linear.backward(context, y).dispose()
      },
      async () => {
        using sum = ops.add(x, y)
        expect(Array.from(await sum.data())).toEqual([11, 22, 33, 44])
      },
      1e9,
    )
    expect(failed).toBeGreaterThan(5)
  })

  test('while all memory is gone each call is an error, and the next one works', async () => {
    const layer = new MemoryLayer(device, {
      inputDim: 4,
      heads: 1,
      knn: 2,
      nKeys: 2,
      keyDim: 4,
    })
    const before = await valuesOf(layer.parameters())
    const input = device.normal([2, 4], { seed: 1 })
    const wanted = Array.from(await layer.infer(input).data())
    const ofX = Array.from(await x.data())
    failNext({ kind: 'malloc', times: 1e9 })
    const calls = [
      () => device.empty([1]),
      () => ops.add(x, y),
      () => x.data(),
      () => device.synchronize(),
      () => layer.infer(input),
      () => layer.forward(input),
    ]
    const errors: unknown[] = []
    for (const call of calls) {
      try {
        await call()
      } catch (error) {
        errors.push(error)
      }
    }
    // A read that blocks may have all that it needs.
    let read: unknown
    try {
      read = Array.from(x.dataSync())
    } catch (error) {
      read = (error as MemoryLayersError).code
    }
    stopFailing('malloc')
    expect([ofX, 'ERR_OUT_OF_MEMORY']).toContainEqual(read)
    expect(errors.map((e) => (e as MemoryLayersError).code)).toEqual(
      calls.map(() => 'ERR_OUT_OF_MEMORY'),
    )
    expect(await valuesOf(layer.parameters())).toEqual(before)
    expect(Array.from(await layer.infer(input).data())).toEqual(wanted)
    await unchanged()
  })

  test('a tensor that there is no memory for is named by its call', async () => {
    failNext({ kind: 'allocation', times: 1e9 })
    const messages = {
      'device.zeros': () => device.zeros([3]),
      'device.normal': () => device.normal([3], { seed: 1 }),
      'device.tensor': () => device.tensor([1]),
      'Tensor.to': () => x.to('float16'),
      add: () => ops.add(x, y),
    }
    for (const [name, call] of Object.entries(messages))
      expect(await errorOf('ERR_OUT_OF_MEMORY', call)).toMatch(new RegExp(`^${name}: .*bytes`))
  })

  test('a thread that cannot be started is ERR_DEVICE, and the next openDevice works', async () => {
    const name = device.name as DeviceName
    const options = device.kind === 'cpu' ? { threads: 7 } : {}
    await openDevice(name, options).close()
    const failed = await forEveryFailure('thread', ['ERR_DEVICE'], async () => {
      const opened = openDevice(name, options)
      expect(Array.from(await opened.tensor([5]).data())).toEqual([5])
      await opened.close()
    })
    expect(failed).toBe(device.kind === 'cpu' ? 1 : 3)
  })
})

describe('the thread pool', () => {
  // In a process of its own: the pool of this one has its threads.
  test('works with the threads that can be started, to the same bits', () => {
    const program = `
      const device = openDevice('cpu', { threads: 4 })
      native.failNext(kinds.thread, 0, 1e9)
      const x = device.normal([300, 400], { seed: 1 }), w = device.normal([500, 400], { seed: 2 })
      const digest = async () => {
        const data = await ops.linear(x, w).data()
        return require('node:crypto').createHash('sha256').update(data).digest('hex')
      }
      const { readdirSync, readFileSync } = require('node:fs')
      const nameOf = (id) => readFileSync('/proc/self/task/' + id + '/comm', 'utf8').trim()
      // Other threads of the process come and go.
      const threads = () => readdirSync('/proc/self/task').filter((id) => {
        try { return nameOf(id) === 'ml-pool' } catch { return false }
      }).length
      const before = threads(), alone = await digest(), none = threads() - before
      // A start that failed is tried again after a while.
      const digestWith = async (count) => {
        for (let i = 0; i < 100 && threads() - before < count; i++) {
          await new Promise((resolve) => setTimeout(resolve, 50))
          await digest()
        }
        return digest()
      }
      native.failNext(kinds.thread, 1, 1e9)
      const two = await digestWith(1), one = threads() - before
      native.failNext(kinds.thread, 0, 0)
      const all = await digestWith(3)
      console.log(JSON.stringify({ none, one, all: threads() - before,
        same: alone === two && two === all }))`
    expect(JSON.parse(run(program))).toEqual({ none: 0, one: 1, all: 3, same: true })
  })
})

test('a read that failed does not keep the program from ending', () => {
  const program = `
    const t = openDevice('cpu').zeros([1000])
    for (let n = 0; n < 12; n++) {
      native.failNext(kinds.malloc, n, 1)
      try { await t.data() } catch (error) { if (error.code !== 'ERR_OUT_OF_MEMORY') throw error }
    }
    console.log('done')`
  expect(run(program)).toBe('done')
})

test('an ArrayBuffer that there is no memory for is ERR_OUT_OF_MEMORY', () => {
  const program = `
    const device = openDevice('cpu', { threads: 1 })
    const t = device.empty([2 ** 28])
    const status = require('node:fs').readFileSync('/proc/self/status', 'utf8')
    const limit = Number(/VmSize:\\s+(\\d+)/.exec(status)[1]) * 1024 + 2 ** 29
    require('node:child_process').execFileSync('prlimit', ['--pid=' + process.pid, '--as=' + limit])
    for (const read of [() => t.data(), () => t.dataSync(), () => device.empty([2 ** 28])]) {
      try { await read() } catch (error) { console.log(error.code, error.message.split(':')[0]) }
    }
    console.log(String(await device.tensor([1, 2]).data()))`
  expect(run(program).split('\n')).toEqual([
    'ERR_OUT_OF_MEMORY Tensor.data',
    'ERR_OUT_OF_MEMORY Tensor.dataSync',
    'ERR_OUT_OF_MEMORY device.empty',
    '1,2',
  ])
})

const root = fileURLToPath(new URL('..', import.meta.url))

/** The output of a program in a process of its own, which must end by itself. */
function run(program: string): string {
  const source = `
    const { createRequire } = require('node:module')
    const native = createRequire(${JSON.stringify(`${root}package.json`)})('node-gyp-build')(
      ${JSON.stringify(root)})
    const kinds = { allocation: 0, malloc: 1, thread: 2, file: 3, cuda: 4 }
    import(${JSON.stringify(`file://${root}dist/index.js`)}).then(async ({ openDevice, ops }) => {
      ${program}
    })`
  const { status, signal, stderr, stdout } = spawnSync(process.execPath, ['-e', source], {
    encoding: 'utf8',
    timeout: 30_000,
  })
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
  return stdout.trim()
}
