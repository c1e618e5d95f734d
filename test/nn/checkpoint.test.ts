// Checkpoints: parts in one file, shared tensors once, loaded all or nothing.

import { describe, expect, test } from 'vitest'
import {
  AdamW,
  MemoryLayer,
  readSafetensors,
  saveSafetensors,
  ValueTable,
} from '../../lib/index.js'
import { Linear, loadCheckpoint, saveCheckpoint, TextDataset } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { temporaryFolder } from '../support/files.js'
import { settledMemory } from '../support/garbage.js'
import { accumulate, small } from '../support/optimizer.js'

const folder = temporaryFolder()

onEveryDevice((device) => {
  const path = `${folder}/${device.kind}.safetensors`

  function make(seed: number) {
    const values = new ValueTable(device, { slots: 64, dim: 12, dtype: 'bfloat16', init: { seed } })
    const first = new MemoryLayer(device, { ...small, values, seed })
    const second = new MemoryLayer(device, { ...small, values, seed: seed + 1 })
    const optimizer = new AdamW([...first.parameters(), ...second.parameters()], { lr: 0.1 })
    const data = new TextDataset([1, 2, 3, 4, 5], { device, contextLength: 2 })
    return { first, second, optimizer, data }
  }
  type Run = ReturnType<typeof make>
  const train = ({ first, second, optimizer }: Run, seeds: number[]) => {
    for (const seed of seeds) {
      accumulate(first, seed)
      accumulate(second, seed + 50)
      optimizer.step()
      optimizer.zeroGrad()
    }
  }
  const numbers = (run: Run) =>
    Promise.all(
      [run.first, run.second, run.optimizer].flatMap((part) =>
        Object.values(part.stateDict()).map(async (t) => [...(await t.bits())]),
      ),
    )

  test('a checkpoint without seeds, as those of before were, is loaded', async () => {
    const whole = make(1)
    whole.data.position = 17
    await saveCheckpoint(path, whole)
    const { tensors, metadata } = await readSafetensors(path, { device })
    const { seeds: _, ...contents } = JSON.parse(metadata['contents']!)
    await saveSafetensors(path, tensors, {
      metadata: { ...metadata, contents: JSON.stringify(contents) },
    })
    const resumed = make(9)
    await loadCheckpoint(path, resumed)
    expect(resumed.data.position).toBe(17)
    expect(await numbers(resumed)).toEqual(await numbers(whole))
  })

  test('a resumed run has the bits of one that was not interrupted', async () => {
    const whole = make(1)
    train(whole, [1, 2, 3, 4])
    const stopped = make(1)
    train(stopped, [1, 2])
    stopped.data.position = 17
    const state = { epoch: 2, notes: ['a', null, true], nested: { lr: 0.5 } }
    const saving = saveCheckpoint(path, { ...stopped, state })
    train(stopped, [7]) // meanwhile
    await saving
    const resumed = make(9)
    expect((await loadCheckpoint(path, resumed)).state).toEqual(state)
    expect(resumed.data.position).toBe(17)
    train(resumed, [3, 4])
    expect(await numbers(resumed)).toEqual(await numbers(whole))
  })

  test('a table that two layers share is in the file once', async () => {
    await saveCheckpoint(path, make(1))
    const { tensors } = await readSafetensors(path, { device })
    const tables = Object.keys(tensors).filter((name) => name.endsWith('values.weight'))
    expect(tables).toEqual(['first.values.weight'])
    for (const t of Object.values(tensors)) t.dispose()
  })

  test('what has a position is found wherever it is in a part', async () => {
    const model = () => {
      const head = new Linear(device, { inputDim: 2, outputDim: 3 })
      const dropouts = [{ position: 0 }, { position: 0 }]
      const stateDict = () => head.stateDict()
      return { blocks: { dropouts }, stateDict, loadStateDict: head.loadStateDict.bind(head) }
    }
    const saved = model()
    saved.blocks.dropouts[0]!.position = 3
    saved.blocks.dropouts[1]!.position = 4
    await saveCheckpoint(path, { model: saved })
    const loaded = model()
    await loadCheckpoint(path, { model: loaded })
    expect(loaded.blocks).toEqual(saved.blocks)
  })

  test('saving and loading leave no memory behind', async () => {
    const run = make(1)
    await saveCheckpoint(path, run)
    const before = await settledMemory(device)
    await saveCheckpoint(path, run)
    await loadCheckpoint(path, run)
    expect(device.memory().allocated).toBe(before)
  })

  describe('all or nothing', () => {
    test('a part that does not fit changes no other', async () => {
      const run = make(1)
      train(run, [1])
      await saveCheckpoint(path, {
        ...run,
        head: new Linear(device, { inputDim: 2, outputDim: 3 }),
      })
      const other = make(2)
      other.data.position = 5
      const before = await numbers(other)
      const head = new Linear(device, { inputDim: 2, outputDim: 4 })
      await errorOf('ERR_STATE_DICT', () => loadCheckpoint(path, { ...other, head }))
      expect(await numbers(other)).toEqual(before)
      expect(other.data.position).toBe(5)
    })

    test('a part that is not in it, another file, and what is no part are refused', async () => {
      const { first, data } = make(1)
      await saveCheckpoint(path, { first })
      const message = await errorOf('ERR_STATE_DICT', () => loadCheckpoint(path, { model: first }))
      expect(message).toContain('"model" is not in the checkpoint')
      expect(message).toContain('It has: first')
      await errorOf('ERR_STATE_DICT', () => loadCheckpoint(path, { first, data }))
      expect((await loadCheckpoint(path, { first })).state).toBe(null)
      for (const part of [7, {}, 'x', [], null])
        await errorOf('ERR_VALUE', () => saveCheckpoint(path, { part }))
      for (const state of [Number.NaN, new Map(), { f() {} }, [undefined], 10n])
        await errorOf('ERR_VALUE', () => saveCheckpoint(path, { first, state }))
      await errorOf('ERR_VALUE', () => saveCheckpoint(path, 7 as never))
      await saveSafetensors(path, first.stateDict())
      await errorOf('ERR_FILE_FORMAT', () => loadCheckpoint(path, { first }))
    })
  })
})
