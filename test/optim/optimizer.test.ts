// What holds for every optimizer: the learning rate, resuming, and what is checked.

import { expect, test } from 'vitest'
import { AdamW, MemoryLayer, openDevice, Sgd } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { accumulate, small } from '../support/optimizer.js'

onEveryDevice((device) => {
  test('lr = 0 changes no bit; lr may be set between steps', async () => {
    const layer = new MemoryLayer(device, small)
    const optimizer = new AdamW(layer.parameters(), { lr: 0, weightDecay: 0.1 })
    const before = await layer.values.weight.data()
    accumulate(layer, 1)
    optimizer.step()
    expect(await layer.values.weight.data()).toEqual(before)
    optimizer.lr = 0.1
    optimizer.step()
    expect(await layer.values.weight.data()).not.toEqual(before)
    optimizer.lr = Number.NaN
    await errorOf('ERR_VALUE', () => optimizer.step())
  })

  test('an lr that is none is refused by the first step', async () => {
    const layer = new MemoryLayer(device, small)
    const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
    optimizer.lr = undefined as never
    await errorOf('ERR_VALUE', () => optimizer.step())
  })

  test('a resumed run has the bits of one that was not interrupted', async () => {
    const make = (seed: number) => {
      const layer = new MemoryLayer(device, { ...small, seed })
      const optimizer = new AdamW(layer.parameters(), { lr: 0.05, weightDecay: 0.1 })
      return { layer, optimizer }
    }
    const train = ({ layer, optimizer }: ReturnType<typeof make>, steps: number[]) => {
      for (const step of steps) {
        accumulate(layer, step)
        optimizer.step()
        optimizer.zeroGrad()
      }
    }
    const uninterrupted = make(3)
    train(uninterrupted, [0, 1, 2, 3, 4, 5])

    const interrupted = make(3)
    train(interrupted, [0, 1, 2])
    const resumed = make(99)
    resumed.layer.loadStateDict(interrupted.layer.stateDict())
    resumed.optimizer.loadStateDict(interrupted.optimizer.stateDict())
    train(resumed, [3, 4, 5])

    const parameters = resumed.layer.parameters()
    for (const [i, p] of uninterrupted.layer.parameters().entries())
      expect(await parameters[i]!.value.data(), p.name).toEqual(await p.value.data())
    const incomplete = { step: device.zeros([1], 'int32') }
    await errorOf('ERR_STATE_DICT', () => resumed.optimizer.loadStateDict(incomplete))
  })

  test('parameters and options are checked', async () => {
    const p = new MemoryLayer(device, small).parameters()
    const adamw = (options: object) => () => new AdamW(p, options as never)
    const sgd = (options: object) => () => new Sgd(p, options as never)
    expect(await errorOf('ERR_OPTION', adamw({ lr: 1, beta: [0, 0] }))).toContain('"betas"')
    const message = await errorOf('ERR_OPTION', sgd({ lr: 1, momentum: 0.9 }))
    expect(message).toContain('lr, weightDecay')
    await errorOf('ERR_VALUE', sgd({}))
    await errorOf('ERR_VALUE', adamw({ lr: 1, betas: [0.9, 1] }))
    await errorOf('ERR_VALUE', adamw({ lr: -1 }))
    await errorOf('ERR_VALUE', () => new Sgd([], { lr: 1 }))
    await errorOf('ERR_VALUE', () => new Sgd([{}] as never, { lr: 1 }))
    const elsewhere = new MemoryLayer(openDevice('cpu', { threads: 3 }), small).parameters()
    await errorOf('ERR_DEVICE_MISMATCH', () => new Sgd([...p, ...elsewhere], { lr: 1 }))
  })

  test('a disposed optimizer is refused', async () => {
    const optimizer = new Sgd(new MemoryLayer(device, small).parameters(), { lr: 1 })
    optimizer.dispose()
    await errorOf('ERR_DISPOSED', () => optimizer.step())
  })
})
