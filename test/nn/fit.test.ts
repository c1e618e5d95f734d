// The training loop: what it does is what a loop by hand does, it can be stopped anywhere, and a
// step that is not finite changes nothing.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { AdamW, clipGradNorm, type Device, type StateDict } from '../../lib/index.js'
import {
  type FitOptions,
  type Stateful,
  type StepInfo,
  schedules,
  TextDataset,
  Transformer,
  fit as train,
} from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { temporaryFolder } from '../support/files.js'
import { TinyModel, tinyVocab } from '../support/tiny-model.js'

const folder = temporaryFolder()
const tokens = Int32Array.from({ length: 200 }, (_, i) => (i * i + (i % 7)) % tinyVocab)
const schedule = schedules.warmupCosine({ warmup: 3, total: 12, floor: 0.1 })

function make(device: Device, source: ArrayLike<number> = tokens) {
  const model = new TinyModel(device)
  const optimizer = new AdamW(model.parameters(), { lr: 0.02, tableLr: 0.1, weightDecay: 0.01 })
  const options = { device, contextLength: 5, batchSize: 2, seed: 3 }
  return { model, optimizer, data: new TextDataset(source, options) }
}

async function bits(state: StateDict): Promise<Record<string, number[]>> {
  const entries = Object.entries(state).map(async ([name, t]) => [name, [...(await t.data())]])
  return Object.fromEntries(await Promise.all(entries))
}

async function stateOf({ model, optimizer }: Record<'model' | 'optimizer', Stateful>) {
  return { model: await bits(model.stateDict()), optimizer: await bits(optimizer.stateDict()) }
}

/** Losses of steps, by their number. */
function recorder() {
  const losses: Record<number, number> = {}
  const onStep = ({ step, loss }: StepInfo) => {
    losses[step] = loss
  }
  return { losses, onStep }
}

onEveryDevice((device) => {
  test('equals a loop by hand, bit for bit', async () => {
    const run = make(device)
    const infos: StepInfo[] = []
    const result = await train(run.model, run.data, {
      optimizer: run.optimizer,
      schedule,
      steps: 6,
      accumulate: 2,
      clip: { maxNorm: 0.5, tables: 'apart' },
      every: 2,
      evaluate: (step) => step * 10,
      onStep: (info) => infos.push(info),
    })

    const hand = make(device)
    const batches = hand.data[Symbol.iterator]()
    for (let step = 1; step <= 6; step++) {
      const losses: number[] = []
      for (let i = 0; i < 2; i++) {
        const batch = batches.next().value!
        const loss = hand.model.loss(batch.tokens, batch.targets)
        losses.push((await loss.data())[0]!)
        loss.backward(device.tensor([0.5]))
      }
      const norms = clipGradNorm(hand.model.parameters(), 0.5, { tables: 'apart' })
      hand.optimizer.lr = 0.02 * schedule(step)
      hand.optimizer.step()
      hand.optimizer.zeroGrad()
      const info = infos[step - 1]!
      expect(info.step).toBe(step)
      expect(info.loss).toBe((losses[0]! + losses[1]!) / 2)
      expect(info.norms).toEqual([...(await norms.data())])
      expect(info.lr).toBe(hand.optimizer.lr)
      expect(info.tableLr).toBe(hand.optimizer.tableLr)
      expect(info.tokensPerSecond).toBeGreaterThan(0)
      expect(info.memory.allocated).toBeGreaterThan(0)
      expect(info.evaluation).toBe(step % 2 === 0 ? step * 10 : undefined)
      // two steps of two batches of ten tokens, two heads and three slots each
      if (step % 2 === 0) expect(info.usage!['memory']!.reads).toBe(2 * 2 * 10 * 2 * 3)
      else expect(info.usage).toBeUndefined()
    }
    expect(await stateOf(run)).toEqual(await stateOf(hand))
    expect(result).toEqual({ step: 6, last: infos[5], aborted: false })
    expect(infos[5]!.loss).toBeLessThan(infos[0]!.loss)
  })

  describe('a run that is aborted', () => {
    const steps = device.kind === 'simt' ? 5 : 12
    const abortAt = device.kind === 'simt' ? [2] : [1, 4, 7, 11]
    const options = { schedule, steps, accumulate: 2, clip: 1 } as const

    test.each(abortAt)('at step %i resumes with the bits of one that never stopped', async (at) => {
      const whole = make(device)
      const { losses, onStep } = recorder()
      await train(whole.model, whole.data, { ...options, optimizer: whole.optimizer, onStep })

      const path = join(folder, `${device.kind}-${at}.safetensors`)
      const stopped = make(device)
      const abort = new AbortController()
      const first = recorder()
      const { step, aborted } = await train(stopped.model, stopped.data, {
        ...options,
        optimizer: stopped.optimizer,
        checkpoint: { path },
        signal: abort.signal,
        onStep: (info) => {
          first.onStep(info)
          if (info.step === at) abort.abort()
        },
      })
      expect(aborted).toBe(true)
      expect(step).toBeGreaterThanOrEqual(at)
      // those in flight are done
      expect(Object.keys(first.losses).length).toBe(step)

      const resumed = make(device)
      const second = recorder()
      const rest = await train(resumed.model, resumed.data, {
        ...options,
        optimizer: resumed.optimizer,
        checkpoint: { path },
        resume: true,
        onStep: second.onStep,
      })
      expect(rest.step).toBe(steps)
      expect({ ...first.losses, ...second.losses }).toEqual(losses)
      expect(await stateOf(resumed)).toEqual(await stateOf(whole))
      expect(resumed.data.position).toBe(whole.data.position)
    })
  })

  test('batches of any iterable are skipped to where it stopped', async () => {
    const path = join(folder, `${device.kind}-iterable.safetensors`)
    async function* batches() {
      yield* make(device).data
    }
    const whole = make(device)
    await train(whole.model, batches(), { optimizer: whole.optimizer, steps: 5 })
    const stopped = make(device)
    const checkpoint = { path, every: 2 }
    await train(stopped.model, batches(), { optimizer: stopped.optimizer, steps: 3, checkpoint })
    const resumed = make(device)
    const options = { optimizer: resumed.optimizer, steps: 5, resume: path }
    const { step } = await train(resumed.model, batches(), options)
    expect(step).toBe(5)
    expect(await stateOf(resumed)).toEqual(await stateOf(whole))
  })

  describe.each([
    ['NaN', Number.NaN, 'NaN'],
    ['-Infinity', -Infinity, '-Infinity'],
  ])('a loss that is %s', (_, poison, found) => {
    test('ends the run at its step, which changed nothing, nor did those behind it', async () => {
      const good = make(device)
      await train(good.model, good.data, { optimizer: good.optimizer, steps: 3 })
      const bad = make(device)
      bad.model.poison = (call) => (call === 4 ? poison : 0)
      const seen = recorder()
      const run = () =>
        train(bad.model, bad.data, {
          optimizer: bad.optimizer,
          steps: 20,
          clip: 1e9,
          checkpoint: { path: join(folder, `${device.kind}-bad.safetensors`), every: 100 },
          onStep: seen.onStep,
        })
      const message = await errorOf('ERR_VALUE', run)
      expect(message).toContain(`the loss of step 4 must be finite, got ${found}`)
      expect(Object.keys(seen.losses)).toEqual(['1', '2', '3'])
      // steps behind it were in flight
      expect(bad.model.calls).toBeGreaterThan(4)
      expect(await stateOf(bad)).toEqual(await stateOf(good))
      for (const p of bad.model.parameters())
        if (p.kind === 'dense') expect(new Set(await p.grad.data())).toEqual(new Set([0]))
      expect(bad.model.memory.values.pendingReads).toBe(0)
      // told once
      await device.synchronize()
    })
  })

  test('a token that is not there ends the run; its step changed nothing', async () => {
    const good = make(device)
    await train(good.model, good.data, { optimizer: good.optimizer, steps: 2 })
    const bad = make(device)
    function* batches() {
      const taken = bad.data[Symbol.iterator]()
      for (let i = 0; i < 6; i++) {
        const batch = taken.next().value!
        if (i === 2) batch.tokens.write(new Int32Array(10).fill(tinyVocab))
        yield batch
      }
    }
    const run = () => train(bad.model, batches(), { optimizer: bad.optimizer })
    await errorOf('ERR_INDEX_RANGE', run)
    expect(await stateOf(bad)).toEqual(await stateOf(good))
  })
})

describe('on the CPU', () => {
  const open = async () => (await import('../../lib/index.js')).openDevice('cpu')

  test('at most three steps are in flight, and memory does not grow', async () => {
    const run = make(await open())
    let reported = 0
    let most = 0
    const memory: number[] = []
    run.model.poison = (call) => {
      most = Math.max(most, call - reported)
      return 0
    }
    await train(run.model, run.data, {
      optimizer: run.optimizer,
      steps: 60,
      onStep: async (info) => {
        await new Promise((done) => setTimeout(done, info.step % 3))
        reported = info.step
        if (info.step > 10) memory.push(info.memory.allocated)
      },
    })
    expect(most).toBe(3)
    expect(Math.max(...memory) - Math.min(...memory)).toBeLessThan(64 * 1024)
  })

  test('masks of dropout go on as they were, though the new model has other seeds', async () => {
    const device = await open()
    const path = join(folder, 'dropout.safetensors')
    const begin = () => {
      const sizes = { vocabSize: tinyVocab, dim: 8, layers: 2, heads: 2, contextLength: 5 }
      const model = new Transformer(device, {
        ...sizes,
        feedForward: { kind: 'gelu', hiddenDim: 8 },
        dropout: 0.3,
      })
      return { ...make(device), model, optimizer: new AdamW(model.parameters(), { lr: 0.02 }) }
    }
    const stopped = begin()
    const checkpoint = { path, every: 2 }
    await train(stopped.model, stopped.data, { optimizer: stopped.optimizer, steps: 2, checkpoint })
    const resumed = begin()
    await train(resumed.model, resumed.data, {
      optimizer: resumed.optimizer,
      steps: 4,
      resume: path,
    })
    await train(stopped.model, stopped.data, { optimizer: stopped.optimizer, steps: 2 })
    expect(await stateOf(resumed)).toEqual(await stateOf(stopped))
  })

  test('keeps as many checkpoints as it is told', async () => {
    const device = await open()
    const run = make(device)
    const path = join(folder, 'kept.safetensors')
    const checkpoint = { path, every: 2, keep: 3 }
    await train(run.model, run.data, { optimizer: run.optimizer, steps: 9, checkpoint })
    const kept = readdirSync(folder).filter((name) => name.startsWith('kept'))
    expect(kept.sort()).toEqual(['kept-6.safetensors', 'kept-8.safetensors', 'kept.safetensors'])
    const old = make(device)
    const resume = join(folder, 'kept-6.safetensors')
    const { step } = await train(old.model, old.data, {
      optimizer: old.optimizer,
      steps: 9,
      resume,
    })
    expect(step).toBe(9)
    expect(await stateOf(old)).toEqual(await stateOf(run))
  })

  test('an error of onStep or the model ends the run; no gradient is left', async () => {
    const run = make(await open())
    const options = { optimizer: run.optimizer, steps: 9 }
    const stop = new Error('enough')
    const onStep = () => {
      throw stop
    }
    await expect(train(run.model, run.data, { ...options, onStep })).rejects.toBe(stop)
    run.model.poison = () => {
      throw stop
    }
    await expect(train(run.model, run.data, options)).rejects.toBe(stop)
    expect(run.model.memory.values.pendingReads).toBe(0)
  })

  test('ends where the batches end; what is left of a step is not taken', async () => {
    const run = make(await open())
    const epoch = new TextDataset(tokens, {
      device: run.model.device,
      contextLength: 13,
      epochs: 1,
    })
    expect(epoch.batches).toBe(15)
    const { step } = await train(run.model, epoch, { optimizer: run.optimizer, accumulate: 4 })
    expect(step).toBe(3)
  })

  test('refuses bad options by name', async () => {
    const { model, optimizer, data } = make(await open())
    const bad = (options: object) => () => train(model, data, options as FitOptions)
    await errorOf('ERR_VALUE', bad({}))
    await errorOf('ERR_OPTION', bad({ optimizer, step: 3 }))
    for (const options of [
      { steps: -1 },
      { accumulate: 0 },
      { clip: -1 },
      { clip: { maxNorm: 1, tables: 'alone' } },
      { schedule: 1 },
      { checkpoint: { path: '' } },
      { checkpoint: { path: 'x', keep: 0 } },
      { resume: true },
      { resume: 7 },
      { signal: {} },
      { every: 0 },
    ])
      await errorOf('ERR_VALUE', bad({ optimizer, ...options }))
    await errorOf('ERR_OPTION', bad({ optimizer, checkpoint: { path: 'x', evry: 1 } }))
    await errorOf('ERR_VALUE', () => train({} as never, data, { optimizer }))
    await errorOf('ERR_VALUE', () => train(model, 7 as never, { optimizer }))
    await errorOf('ERR_VALUE', () => train(model, [{ tokens: 1 }] as never, { optimizer }))
    await errorOf('ERR_FILE_FORMAT', bad({ optimizer, resume: join(folder, 'none') }))
  })
})
