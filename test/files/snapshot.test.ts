import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  AdamW,
  type Device,
  loadSafetensors,
  MemoryLayer,
  openDevice,
  type StateDict,
  saveSafetensors,
  type Tensor,
} from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { temporaryFolder } from '../support/files.js'

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
      const state = { ...layer.stateDict(), ...optimizer.stateDict() }
      await savedBeside(device, state, step)
    })
  })
})

describe('a large tensor', () => {
  const device = openDevice('cpu', { threads: 1 })
  const size = 11_000_000 // three chunks
  const ones = new Float32Array(size).fill(1)

  test('is whole when it is written in the middle of the save', async () => {
    const source = device.normal([size], { seed: 1 })
    const t = source.to('float32')
    const wanted = await bytesOf(t)
    for (const when of [0, 1, 2]) {
      const path = join(folder, 'large')
      let steps = 0
      const before = device.memory().allocated
      await saveSafetensors(path, { t }, { onProgress: () => steps++ === when && t.write(ones) })
      const { t: saved } = await loadSafetensors(path, { device })
      expect((await bytesOf(saved!)).equals(wanted)).toBe(true)
      saved!.dispose()
      expect(device.memory().allocated).toBe(before)
      t.copyFrom(source)
    }
  })

  test('is not copied where it is not written', async () => {
    const t = device.zeros([size])
    await t.data()
    const { allocated } = device.memory()
    const seen: number[] = []
    const onProgress = () => seen.push(device.memory().allocated)
    await saveSafetensors(join(folder, 'large'), { t }, { onProgress })
    expect(seen).toEqual([allocated, allocated, allocated])
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
