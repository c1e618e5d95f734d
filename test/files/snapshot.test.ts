import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  AdamW,
  type Device,
  loadSafetensors,
  MemoryLayer,
  type MemoryLayersError,
  openDevice,
  type StateDict,
  saveSafetensors,
  type Tensor,
} from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { failNext, failureCalls, stopFailing } from '../support/failures.js'
import { temporaryFolder } from '../support/files.js'
import { settledMemory } from '../support/garbage.js'

const folder = temporaryFolder()

async function bytesOf(t: Tensor): Promise<Buffer> {
  const bits = await t.bits()
  return Buffer.from(bits.buffer, bits.byteOffset, bits.byteLength)
}

/** Saves, calls `meanwhile` at once and at each step of the save, and compares with the call. */
async function savedBeside(
  device: Device,
  tensors: StateDict,
  meanwhile: () => void,
): Promise<void> {
  const path = join(folder, `${device.name}.safetensors`)
  const before = new Map<string, Buffer>()
  for (const [name, t] of Object.entries(tensors)) before.set(name, await bytesOf(t))
  let steps = 0
  const saved = saveSafetensors(path, tensors, {
    onProgress: () => {
      if (++steps < 4) meanwhile()
    },
  })
  meanwhile()
  await saved
  const loaded = await loadSafetensors(path, { device })
  expect(Object.keys(loaded)).toEqual([...before.keys()])
  for (const [name, bytes] of before)
    expect((await bytesOf(loaded[name]!)).equals(bytes), name).toBe(true)
  rmSync(path)
}

/** A small layer, trained; each call of the function is a step more. */
function training(device: Device): { state: StateDict; step: () => void } {
  const options = { inputDim: 4, heads: 2, knn: 2, nKeys: 4, keyDim: 4, seed: 1 } as const
  const layer = new MemoryLayer(device, options)
  const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
  const x = device.normal([3, 4], { seed: 3 })
  const step = () => {
    const { output, context } = layer.forward(x)
    layer.backward(context, output)
    optimizer.step()
    optimizer.zeroGrad()
  }
  step()
  return { state: { ...layer.stateDict(), ...optimizer.stateDict() }, step }
}

onEveryDevice((device) => {
  describe('a save sees its tensors as they are at the call', () => {
    const changes: Record<string, (t: Tensor, other: Tensor) => unknown> = {
      write: (t) => t.write(new Float32Array(6)),
      'write of a part': (t) => t.rows(1, 2).write(new Float32Array(2)),
      copyFrom: (t, other) => t.copyFrom(other),
      'copyFrom through a view': (t, other) => t.reshape([6]).copyFrom(other.reshape([6])),
      dispose: (t) => t.dispose(),
      'dispose and reuse of the memory': (t) => {
        t.dispose()
        for (let i = 0; i < 8; i++) device.zeros([3, 2])
      },
    }
    test.each(Object.entries(changes))('%s', async (_, change) => {
      const t = device.normal([3, 2], { seed: 1 })
      const view = t.rows(0, 2)
      const other = device.normal([3, 2], { seed: 2 })
      await savedBeside(device, { t, view, other }, () => t.disposed || change(t, other))
    })

    test('training', async () => {
      const { state, step } = training(device)
      await savedBeside(device, state, step)
    })
  })
})

describe('a large tensor', () => {
  const device = openDevice('cpu', { threads: 1 })
  const size = 11_000_000 // three chunks
  const ones = new Float32Array(size).fill(1)

  test('is whole when it is written in the middle of the save', async () => {
    using source = device.normal([size], { seed: 1 })
    using t = source.to('float32')
    const wanted = await bytesOf(t)
    for (const when of [0, 1, 2]) {
      const path = join(folder, 'large')
      let steps = 0
      const before = await settledMemory(device)
      await saveSafetensors(path, { t }, { onProgress: () => steps++ === when && t.write(ones) })
      const { t: saved } = await loadSafetensors(path, { device })
      expect((await bytesOf(saved!)).equals(wanted)).toBe(true)
      saved!.dispose()
      expect(device.memory().allocated).toBe(before)
      t.copyFrom(source)
    }
  })

  test('is not copied where it is not written', async () => {
    using t = device.zeros([size])
    await t.data()
    const { allocated } = device.memory()
    const seen: number[] = []
    const onProgress = () => seen.push(device.memory().allocated)
    await saveSafetensors(join(folder, 'large'), { t }, { onProgress })
    expect(seen).toEqual([allocated, allocated, allocated])
  })
})

onEveryDevice((device) => {
  describe('a save beside writes, where memory is short, is whole or rejects', () => {
    const path = join(folder, `short on ${device.name}`)
    const old = device.tensor([0])

    /** Saves while `write` fails from its n-th call of the kind on, for every `stride`-th n. */
    async function eachFailure(
      kind: 'allocation' | 'malloc',
      times: number,
      state: StateDict,
      write: () => void,
      stride = 1,
    ): Promise<number> {
      let rejected = 0
      for (let after = 0; ; after += stride) {
        await saveSafetensors(path, { old })
        const wanted = new Map<string, Buffer>()
        for (const [name, t] of Object.entries(state)) wanted.set(name, await bytesOf(t))
        const saved = saveSafetensors(path, state).then(
          () => undefined,
          (error) => error,
        )
        failNext({ kind, after, times })
        try {
          write()
        } catch (error) {
          expect((error as MemoryLayersError).code).toBe('ERR_OUT_OF_MEMORY')
        }
        const reached = failureCalls(kind) > after
        stopFailing(kind)
        const error = await saved
        const loaded = await loadSafetensors(path, { device })
        if (error) {
          rejected++
          expect(error.code).toBe('ERR_OUT_OF_MEMORY')
          expect(Object.keys(loaded)).toEqual(['old'])
        } else {
          for (const [name, bytes] of wanted)
            expect((await bytesOf(loaded[name]!)).equals(bytes), name).toBe(true)
        }
        for (const t of Object.values(loaded)) t.dispose()
        if (!reached) return rejected
      }
    }

    const failures = [
      ['allocation', 1],
      ['malloc', 1],
      ['malloc', 1e9],
    ] as const

    test.each(failures)('%s, %d times in a write', async (kind, times) => {
      const state = { a: device.tensor([1, 2, 3]), b: device.tensor([4, 5, 6]) }
      const before = device.memory().allocated
      const write = () => state.b.write([7, 8, 9])
      expect(await eachFailure(kind, times, state, write)).toBeGreaterThan(0)
      expect(device.memory().allocated).toBeLessThanOrEqual(before)
    })

    test('an allocation in a step', async () => {
      const { state, step } = training(device)
      expect(await eachFailure('allocation', 1, state, step, 5)).toBeGreaterThan(0)
    })
  })

  test('a save that cannot begin leaves nothing that watches its tensors', async () => {
    const [a, b] = [device.tensor([1, 2]), device.tensor([3, 4])]
    const before = device.memory().allocated
    for (let after = 0; ; after++) {
      failNext({ kind: 'malloc', after })
      const saved = saveSafetensors(join(folder, 'begin'), { a, b })
      const reached = failureCalls('malloc') > after
      stopFailing('malloc')
      const error = await saved.catch((e) => e)
      if (!reached) break
      if (!error) continue
      a.write([1, 2])
      b.write([3, 4])
      expect(device.memory().allocated).toBeLessThanOrEqual(before)
    }
  })
})

test('names, metadata and tensors are those of the call', async () => {
  const device = openDevice('cpu')
  const path = join(folder, 'call')
  const tensors: StateDict = { a: device.tensor([1]) }
  const metadata: Record<string, string> = { step: '1' }
  const saved = saveSafetensors(path, tensors, { metadata })
  tensors['a'] = device.tensor([2])
  tensors['b'] = device.tensor([3])
  metadata['step'] = '2'
  await saved
  const loaded = await loadSafetensors(path, { device })
  expect(Object.keys(loaded)).toEqual(['a'])
  expect(await loaded['a']!.data()).toEqual(Float32Array.of(1))
})
