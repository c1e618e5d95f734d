// A launch that fails (the emulator's, on demand): what depends on its work is void, however many
// launches that takes, and nothing reads memory that was never written.

import { afterEach, describe, expect, test } from 'vitest'
import { AdamW, devices, MemoryLayersError, openDevice, ops } from '../../lib/index.js'
import { Linear, MixtureOfExperts } from '../../lib/nn/index.js'
import { failNext, failureCalls, stopFailing } from '../support/failures.js'
import { reportAll } from '../support/faults.js'

afterEach(() => stopFailing('cuda'))

describe.runIf(devices().some((d) => d.name === 'simt'))('a CUDA call that fails', () => {
  const device = openDevice('simt')

  /** Runs `act` with its first, every `stride`-th … CUDA call failing, until none is left. */
  async function eachFailure(act: () => Promise<unknown>, stride: number): Promise<void> {
    const wanted = await act()
    for (let after = 0; ; after += stride) {
      failNext({ kind: 'cuda', after })
      const got = await act().catch((error) => error)
      const reached = failureCalls('cuda') > after
      stopFailing('cuda')
      if (got instanceof Error) expect(got).toBeInstanceOf(MemoryLayersError)
      else expect(got).toEqual(wanted)
      await reportAll(device)
      if (!reached) return
    }
  }

  test('in a fill, before an operation that adds to what was filled', async () => {
    const [x, w] = [device.normal([3, 2], { seed: 1 }), device.normal([4, 2], { seed: 2 })]
    const dy = device.normal([3, 4], { seed: 3 })
    await eachFailure(async () => {
      using weight = device.zeros([4, 2])
      using bias = device.zeros([4])
      ops.linearBackward(dy, x, w, { into: { weight, bias } }).dx?.dispose()
      await device.synchronize()
      return [await weight.data(), await bias.data()]
    }, 1)
  })

  test('in a model that is made, run and differentiated', async () => {
    const x = device.normal([3, 4], { seed: 1 })
    await eachFailure(async () => {
      using model = new MixtureOfExperts(device, { dim: 4, hiddenDim: 2, experts: 2, seed: 1 })
      const { output, context } = model.forward(x)
      using _output = output
      using _context = context
      using dx = model.backward(context, x)
      await device.synchronize()
      return [await output.data(), await dx.data()]
    }, 29)
  })

  test('in a step: each parameter has its old values or its new ones', async () => {
    const train = async (failing: number) => {
      using layer = new Linear(device, { inputDim: 3, outputDim: 2, seed: 1 })
      using optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
      const values = () => Promise.all(layer.parameters().map((p) => p.value.data()))
      for (let step = 0; step < 2; step++) {
        using x = device.normal([4, 3], { seed: step + 2 })
        const { context } = layer.forward(x)
        layer.backward(context, device.normal([4, 2], { seed: 4 })).dispose()
        if (step === 0) optimizer.step()
        await device.synchronize()
      }
      const before = await values()
      if (failing >= 0) failNext({ kind: 'cuda', after: failing })
      await Promise.resolve()
        .then(() => optimizer.step())
        .then(() => device.synchronize())
        .catch((error) => expect(error).toBeInstanceOf(MemoryLayersError))
      const reached = failureCalls('cuda') > failing
      stopFailing('cuda')
      await reportAll(device)
      return { before, after: await values(), reached }
    }
    const wanted = (await train(-1)).after
    for (let failing = 0, reached = true; reached; failing++) {
      const got = await train(failing)
      reached = got.reached
      for (const [i, after] of got.after.entries())
        expect([got.before[i], wanted[i]], `parameter ${i}, call ${failing}`).toContainEqual(after)
    }
  })
})
