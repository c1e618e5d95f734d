// A small training run, the same each time it is made, and all of its state as bits.

import {
  AdamW,
  type Device,
  MemoryLayer,
  MemoryLayersError,
  type Optimizer,
  openDevice,
  type Parameter,
  type Tensor,
} from '../../../lib/index.js'
import { Linear } from '../../../lib/nn/index.js'

const options = { inputDim: 6, heads: 2, knn: 2, nKeys: 3, keyDim: 4 } as const
const tokens = 3

/** A memory layer with a 16-bit table and a linear map, after one step of an optimizer. */
export interface State {
  device: Device
  /** To copy to. */
  other: Device
  layer: MemoryLayer
  linear: Linear
  optimizer: Optimizer
  parameters: readonly Parameter[]
  x: Tensor
  /** Of a forward whose backward is still to come. */
  context: ReturnType<MemoryLayer['forward']>['context']
  dy: Tensor
}

let other: Device | undefined

export async function makeState(device: Device): Promise<State> {
  device.seeds.restart(1)
  const layer = new MemoryLayer(device, {
    ...options,
    outputGate: true,
    queryNorm: 'rms',
    dtype: 'bfloat16',
  })
  const linear = new Linear(device, { inputDim: 6, outputDim: 6 })
  const parameters = [...layer.parameters(), ...linear.parameters()]
  const optimizer = new AdamW(parameters, { lr: 0.01 })
  const x = device.normal([tokens, 6], { seed: 1 })
  const dy = device.normal([tokens, 6], { seed: 2 })
  const accumulate = () => {
    const a = layer.forward(x)
    const b = linear.forward(a.output)
    const dh = linear.backward(b.context, dy)
    layer.backward(a.context, dh).dispose()
    for (const t of [a.output, b.output, dh]) t.dispose()
  }
  accumulate()
  optimizer.step()
  optimizer.zeroGrad()
  accumulate()
  const { output, context } = layer.forward(x)
  output.dispose()
  await device.synchronize()
  // of a number of threads that no call opens and closes
  other ??= openDevice('cpu', { threads: 7 })
  return { device, other, layer, linear, optimizer, parameters, x, context, dy }
}

export function disposeState(s: State): void {
  s.context.dispose()
  s.optimizer.dispose()
  s.layer.dispose()
  s.linear.dispose()
  s.x.dispose()
  s.dy.dispose()
}

/** In place of the bits of a tensor that is void. */
export const voidBits = 'void'

// What is void cannot be read.
function asVoid(error: unknown): undefined {
  if (!(error instanceof MemoryLayersError)) throw error
}

/** Every bit of the state: values, gradients, queues, optimizer states. */
export async function snapshot(s: State): Promise<Record<string, string>> {
  const bits: Record<string, string> = {}
  const note = async (name: string, t: Tensor) => {
    const data = await t.data().catch(asVoid)
    if (data === undefined) {
      bits[name] = voidBits
      return
    }
    bits[name] = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64')
  }
  for (const [i, p] of s.parameters.entries()) {
    await note(`${i} ${p.name}`, p.value)
    if (p.kind === 'dense') {
      await note(`gradient of ${i} ${p.name}`, p.grad)
      continue
    }
    using gradient = p.grad
    using dense = gradient.toDense()
    await note(`gradient of ${i} ${p.name}`, dense)
    bits[`queue of ${i} ${p.name}`] = String(p.table.pendingReads)
  }
  for (const [name, t] of Object.entries(s.optimizer.stateDict())) {
    await note(`optimizer's ${name}`, t)
    if (name.endsWith('.master')) t.dispose()
  }
  await note('x', s.x)
  return bits
}

/** The first name whose bits differ. */
export function difference(a: Record<string, string>, b: Record<string, string>) {
  return Object.keys({ ...a, ...b }).find((name) => a[name] !== b[name])
}
