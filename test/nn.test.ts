import { describe, expect, test } from 'vitest'
import { AdamW, type Device, openDevice, type Parameter, type Tensor } from '../lib/index.js'
import { CrossEntropy, FeedForward, Linear, type Module, RmsNorm } from '../lib/nn/index.js'
import { inner } from './support/differences.js'
import { errorOf } from './support/errors.js'

const device = openDevice('cpu')

const modules: [string, (d: Device) => Module, number, number][] = [
  ['Linear', (d) => new Linear(d, { inputDim: 6, outputDim: 5, seed: 1 }) as Module, 6, 5],
  ['Linear without bias', (d) => new Linear(d, { inputDim: 6, outputDim: 5, bias: false }) as Module, 6, 5],
  ['FeedForward gelu', (d) => new FeedForward(d, { dim: 6, hiddenDim: 9, seed: 1 }) as Module, 6, 6],
  ['FeedForward silu', (d) => new FeedForward(d, { dim: 6, hiddenDim: 9, activation: 'silu' }) as Module, 6, 6],
  ['RmsNorm', (d) => new RmsNorm(d, { dim: 6 }) as Module, 6, 6],
]

describe.each(modules)('%s', (_, make, width, out) => {
  test('every gradient is the slope of the loss, along random directions', async () => {
    const module = make(device)
    const x = device.normal([4, width], { seed: 1 })
    const g = (await device.normal([4, out], { seed: 2 }).data()) as Float32Array
    const { output, context } = module.forward(x)
    expect(await output.data()).toEqual(await module.infer(x).data())
    const dx = module.backward(context, device.tensor(g, [4, out]))
    const loss = async () => inner(g, await module.infer(x).data())
    const check = async (label: string, value: Tensor, grad: ArrayLike<number>) => {
      const before = (await value.data()) as Float32Array
      const direction = (await device.normal([before.length], { seed: 7 }).data()) as Float32Array
      const step = 1e-2
      value.write(before.map((v, i) => v + step * direction[i]!))
      const up = await loss()
      value.write(before.map((v, i) => v - step * direction[i]!))
      const down = await loss()
      value.write(before)
      expect(Math.abs((up - down) / (2 * step) - inner(grad, direction)), label).toBeLessThan(2e-3 * (1 + Math.abs(inner(grad, direction))))
    }
    for (const p of module.parameters()) if (p.kind === 'dense') await check(p.name, p.value, await p.grad.data())
    await check('x', x, await dx.data())
  })

  test('contexts are spent once; three axes are kept; state dicts load all or nothing', async () => {
    const module = make(device)
    const x = device.normal([2, 3, width], { seed: 1 })
    const { output, context } = module.forward(x)
    expect(output.shape).toEqual([2, 3, out])
    await errorOf('ERR_SHAPE', () => module.backward(context, device.zeros([2, 3, out + 1])))
    await errorOf('ERR_CONTEXT', () => make(device).backward(context, device.zeros([2, 3, out])))
    expect(module.backward(context, device.zeros([2, 3, out])).shape).toEqual([2, 3, width])
    await errorOf('ERR_CONTEXT', () => module.backward(context, device.zeros([2, 3, out])))
    await errorOf('ERR_SHAPE', () => module.forward(device.zeros([3, width + 1])))
    await errorOf('ERR_STATE_DICT', () => module.loadStateDict({}))
    const other = make(device)
    other.loadStateDict(module.stateDict())
    expect(await other.infer(x).data()).toEqual(await module.infer(x).data())
  })
})

test('CrossEntropy is the mean, and a small classifier learns with it', async () => {
  const model = new FeedForward(device, { dim: 8, hiddenDim: 32, seed: 3 })
  const head = new Linear(device, { inputDim: 8, outputDim: 3, seed: 4 })
  const loss = new CrossEntropy(device)
  const parameters: Parameter[] = [...model.parameters(), ...head.parameters()]
  const optimizer = new AdamW(parameters, { lr: 1e-2 })
  const x = device.normal([30, 8], { seed: 5 })
  const targets = device.tensor(Int32Array.from({ length: 30 }, (_, i) => i % 3))
  const losses: number[] = []
  for (let step = 0; step < 150; step++) {
    const block = model.forward(x)
    const logits = head.forward(block.output)
    const { loss: mean, context } = loss.forward(logits.output, targets)
    losses.push((await mean.data())[0]!)
    model.backward(block.context, head.backward(logits.context, loss.backward(context)))
    optimizer.step()
    optimizer.zeroGrad()
  }
  expect(losses[0]).toBeGreaterThan(0.9)
  expect(losses[0]).toBeLessThan(1.5)
  expect(losses.at(-1)).toBeLessThan(0.05)
})

test('options are checked', async () => {
  expect(await errorOf('ERR_OPTION', () => new Linear(device, { inputDim: 1, outputdim: 2 } as never))).toMatch(/"outputDim"/)
  expect(await errorOf('ERR_OPTION', () => new FeedForward(device, { dim: 1, hidenDim: 2 } as never))).toMatch(/"hiddenDim"/)
  await errorOf('ERR_VALUE', () => new FeedForward(device, { dim: 1, hiddenDim: 2, activation: 'tanh' as never }))
  await errorOf('ERR_VALUE', () => new RmsNorm(device, { dim: 0 }))
})
