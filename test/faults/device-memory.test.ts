// Device memory that ends in the middle of a training step (the emulator's, on demand), at each of
// its allocations: of tensors, of what an operation works in, of copies, of graphs.

import { afterEach, describe, expect, test, vi } from 'vitest'
import {
  AdamW,
  type Capture,
  clipGradNorm,
  type Device,
  devices,
  MemoryLayer,
  openDevice,
  PeerLayer,
  type StateDict,
  type Tensor,
} from '../../lib/index.js'
import { Linear } from '../../lib/nn/index.js'
import { failNext, failureCalls, stopFailing } from '../support/failures.js'
import { reportAll } from '../support/faults.js'
import { settledMemory } from '../support/garbage.js'
import { gradientsOf } from '../support/layers.js'

vi.setConfig({ testTimeout: 300_000 }) // some hundred steps each
afterEach(() => stopFailing('cudaMemory'))

type Bits = Record<string, number[]>

async function bitsOf(state: StateDict): Promise<Bits> {
  const entries = Object.entries(state).map(
    async ([name, t]) => [name, Array.from(await t.bits(), Number)] as const,
  )
  return Object.fromEntries(await Promise.all(entries))
}

/** A memory layer on a table of 16 bits, a PEER layer and a linear one, and a step of them. */
class Training {
  readonly #modules
  readonly #parameters
  readonly #optimizer
  readonly #x: Tensor
  readonly #dy: Tensor
  #y: Tensor | undefined

  constructor(device: Device) {
    const shape = { inputDim: 8, heads: 2, knn: 3, nKeys: 5, keyDim: 8 }
    this.#modules = [
      new MemoryLayer(device, { ...shape, dtype: 'bfloat16', queryNorm: 'rms', seed: 1 }),
      new PeerLayer(device, { ...shape, seed: 2 }),
      new Linear(device, { inputDim: 8, outputDim: 8, seed: 3 }),
    ]
    this.#parameters = this.#modules.flatMap((m) => [...m.parameters()])
    this.#optimizer = new AdamW(this.#parameters, { lr: 0.05 })
    this.#x = device.normal([4, 8], { seed: 4 })
    this.#dy = device.normal([4, 8], { seed: 5 })
  }

  /** Of a step. Each changes everything or nothing. */
  readonly calls: Record<string, () => void> = {
    forward: () => {
      this.#y = this.#modules.reduce((h: Tensor, module) => module.apply(h), this.#x)
    },
    backward: () => this.#y!.backward(this.#dy),
    clip: () => clipGradNorm(this.#parameters, 0.5).dispose(),
    step: () => this.#optimizer.step(),
    zeroGrad: () => {
      this.#optimizer.zeroGrad()
      this.#y = undefined
    },
  }

  step(): void {
    for (const call of Object.values(this.calls)) call()
  }

  /** Of parameters, optimizer and gradients. */
  async state() {
    const modules = await Promise.all(this.#modules.map((m) => bitsOf(m.stateDict())))
    const gradients = await gradientsOf(this.#parameters)
    return { modules, optimizer: await bitsOf(this.#optimizer.stateDict()), gradients }
  }

  /** Takes on what another has been trained to. */
  load(other: Training): void {
    for (const [i, module] of this.#modules.entries())
      module.loadStateDict(other.#modules[i]!.stateDict())
    this.#optimizer.loadStateDict(other.#optimizer.stateDict())
    this.#optimizer.zeroGrad()
  }
}

describe.runIf(devices().some((d) => d.name === 'simt'))('device memory that ends', () => {
  const device = openDevice('simt')
  /** Trained with `steps` steps. */
  const trained = (steps: number) => {
    const made = new Training(device)
    for (let i = 0; i < steps; i++) made.step()
    return made
  }

  // who wanted the memory
  const operation = /^MemoryLayersError \[\w+\]: [\w.]+: /
  /** Runs `act`, and says how it failed: at once, or by what was enqueued. */
  async function failureOf(act: () => void): Promise<'none' | 'at once' | 'late'> {
    let how: 'at once' | 'late' = 'late'
    try {
      try {
        act()
      } catch (error) {
        how = 'at once'
        throw error
      }
      await device.synchronize()
      return 'none'
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
      expect(String(error)).toMatch(operation)
      await reportAll(device)
      return how
    }
  }

  const template = trained(1)

  test.each([
    ['one allocation fails', 1],
    ['all from one on fail', 1e9],
  ])('in a training step: %s', async (_, times) => {
    const training = trained(0)
    const names = Object.keys(training.calls)
    const load = () => training.load(template)
    // after each call of a step
    load()
    const states = [await training.state()]
    for (const name of names) {
      training.calls[name]!()
      states.push(await training.state())
    }
    const allocated = await settledMemory(device)
    const failures: Record<string, number> = {}
    for (let n = 1, reached = true; reached; n++) {
      load()
      await device.synchronize()
      reached = false
      let left = n - 1
      for (const [i, name] of names.entries()) {
        if (!reached) failNext({ kind: 'cudaMemory', after: left, times })
        const how = await failureOf(training.calls[name]!)
        const calls = failureCalls('cudaMemory')
        stopFailing('cudaMemory')
        reached ||= calls > left
        left -= calls
        if (how === 'none') continue
        failures[`${name} ${how}`] = (failures[`${name} ${how}`] ?? 0) + 1
        const state = await training.state()
        if (how === 'at once') {
          expect(state, `${name}, allocation ${n}`).toEqual(states[i])
          training.calls[name]!()
          continue
        }
        // what is found late voids what depends on it: each parameter is the old one or the new
        for (const [m, parameters] of state.modules.entries())
          for (const [key, value] of Object.entries(parameters))
            expect([states[i]!.modules[m]![key], states[i + 1]!.modules[m]![key]]).toContainEqual(
              value,
            )
        load()
        training.step()
        break
      }
      expect(await training.state(), `after allocation ${n}`).toEqual(states.at(-1))
    }
    // a cached block or a second try makes up for one; what an operation works in is needed late
    const kinds = Object.keys(failures)
    if (times === 1) expect(kinds).toEqual([])
    else
      for (const kind of ['forward at once', 'backward late', 'clip at once', 'step late'])
        expect(kinds).toContain(kind)
    expect(await settledMemory(device)).toBe(allocated)
  })

  test.each([
    ['one allocation fails', 1],
    ['all from one on fail', 1e9],
  ])('in a capture and its first replay: %s', async (_, times) => {
    const training = trained(0)
    training.load(template)
    training.step()
    const wanted = await training.state()
    const allocated = await settledMemory(device)
    for (let n = 1, reached = true; reached; n++) {
      training.load(template)
      const before = await training.state()
      failNext({ kind: 'cudaMemory', after: n - 1, times })
      let captured: Capture<void> | undefined
      let how = await failureOf(() => {
        captured = device.capture(() => training.step())
      })
      if (captured) how = await failureOf(() => captured!.replay())
      reached = failureCalls('cudaMemory') >= n
      stopFailing('cudaMemory')
      if (how === 'at once') expect(await training.state(), `allocation ${n}`).toEqual(before)
      if (how === 'none') expect(await training.state(), `allocation ${n}`).toEqual(wanted)
      // whatever has failed, the next one is right
      captured ??= device.capture(() => training.step())
      training.load(template)
      captured.replay()
      expect(await training.state(), `after allocation ${n}`).toEqual(wanted)
      captured.dispose()
    }
    expect(await settledMemory(device)).toBe(allocated)
  })

  test('work whose end there is no more memory to note is not void', async () => {
    await device.close()
    const fresh = openDevice('simt')
    failNext({ kind: 'cudaMemory', after: 1, times: 1e9 })
    const x = fresh.zeros([2])
    for (let i = 0; i < 600; i++) x.write([i, i])
    await fresh.synchronize()
    stopFailing('cudaMemory')
    expect(Array.from(await x.data())).toEqual([599, 599])
    await fresh.close()
  })
})
