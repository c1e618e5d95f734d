// Two flows of a program on one device. One has a fault and catches it; whatever the other makes
// meanwhile, in whichever way, it gets the same bits as without its neighbour.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  AdamW,
  clipGradNorm,
  type Device,
  loadSafetensors,
  MemoryLayer,
  openDevice,
  ops,
  saveSafetensors,
  type Tensor,
} from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { faulty, numbersOf } from '../support/faults.js'
import { gradientsOf, valuesOf } from '../support/layers.js'

const code = 'ERR_INDEX_RANGE'
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-'))
afterAll(() => rmSync(folder, { recursive: true }))

const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 8, keyDim: 8, seed: 1 }
const file = join(folder, 'saved.safetensors')
const values = Float32Array.from({ length: 3000 }, (_, i) => i / 7)
const sound = Int32Array.from([3, 2])

/** Every way to make or move a tensor. */
const ways: Record<string, (device: Device) => Tensor | Promise<Tensor>> = {
  tensor: (d) => d.tensor(values),
  'tensor, 16 bits': (d) => d.tensor(values, [30, 100], 'bfloat16'),
  zeros: (d) => d.zeros([3000]),
  normal: (d) => d.normal([3000], { seed: 5 }),
  uniform: (d) => d.uniform([3000], { seed: 5, dtype: 'float16' }),
  write: (d) => d.empty([3000]).write(values),
  'write, 16 bits': (d) => d.empty([3000], 'float16').write(values),
  copyFrom: (d) => d.empty([3000]).copyFrom(d.tensor(values)),
  'to a dtype': (d) => d.tensor(values).to('bfloat16'),
  'to the device itself': (d) => d.tensor(values).to(d),
  'to another device and back': (d) =>
    d
      .tensor(values)
      .to(openDevice('cpu', { threads: 3 }))
      .to(d),
  reshape: (d) => d.tensor(values).reshape([30, 100]),
  rows: (d) => d.tensor(values, [30, 100]).rows(7, 9),
  'an operation': (d) => ops.add(d.tensor(values), d.tensor(values)),
  'an operation into out': (d) =>
    ops.add(d.tensor(values), d.zeros([3000]), { out: d.empty([3000]) }),
  'rows of a table': (d) =>
    ops.embeddingBag(
      d.tensor(values, [30, 100]),
      d.tensor(sound, [1, 2]),
      d.tensor([1, 1], [1, 2]),
    ),
  'a dense gradient of a table': (d) =>
    ops
      .embeddingBagBackward(
        d.normal([1, 100], { seed: 1 }),
        d.tensor(values, [30, 100]),
        d.tensor(sound, [1, 2]),
        d.tensor([1, 1], [1, 2]),
      )
      .dTable.toDense(),
  loadSafetensors: async (d) => (await loadSafetensors(file, { device: d }))['values'] as Tensor,
}

onEveryDevice((device) => {
  for (const [name, make] of Object.entries(ways))
    test(`${name}, beside a fault`, async () => {
      await saveSafetensors(file, { values: device.tensor(values) })
      const alone = await (await make(device)).data()
      const before = faulty(device)
      const made = make(device)
      const after = faulty(device)
      const tensor = await made
      await errorOf(code, () => before.data())
      expect(await tensor.data()).toEqual(alone)
      await errorOf(code, () => after.data())
      expect(tensor.dataSync()).toEqual(alone)
    })

  test('layers, contexts, optimizers and clipping, beside a fault', async () => {
    const x = device.normal([8, 16], { seed: 1 })
    const train = async (beside: () => void) => {
      beside()
      const layer = new MemoryLayer(device, options)
      beside()
      const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
      const { output, context } = layer.forward(x)
      beside()
      const dx = layer.backward(context, output)
      beside()
      const norm = clipGradNorm(layer.parameters(), 0.01)
      beside()
      const gradients = await gradientsOf(layer.parameters())
      optimizer.step()
      beside()
      optimizer.zeroGrad()
      return {
        gradients,
        values: await valuesOf(layer.parameters()),
        results: await Promise.all([output, dx, norm].map(numbersOf)),
      }
    }
    const alone = await train(() => {})
    const faults: Promise<string>[] = []
    const beside = await train(() => faults.push(errorOf(code, () => faulty(device).data())))
    expect(beside).toEqual(alone)
    expect(await Promise.all(faults)).toHaveLength(6)
    await device.synchronize()
  })

  test('a void tensor is not saved, and the old file stays', async () => {
    const path = join(folder, 'kept.safetensors')
    await saveSafetensors(path, { t: device.tensor([1, 2]) })
    const old = readFileSync(path)
    const y = faulty(device)
    await errorOf(code, () => saveSafetensors(path, { t: device.tensor([3, 4]), y }))
    expect(readFileSync(path)).toEqual(old)
  })
})
