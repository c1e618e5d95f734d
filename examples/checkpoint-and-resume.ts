// Saves a training run in the middle and resumes it: the resumed run ends bitwise identical to one
// that was never stopped.
//
//   npx tsx examples/checkpoint-and-resume.ts

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AdamW,
  loadSafetensors,
  MemoryLayer,
  openDevice,
  type StateDict,
  saveSafetensors,
} from 'memory-layers'

const device = openDevice()

function start() {
  const layer = new MemoryLayer(device, {
    inputDim: 16,
    heads: 2,
    knn: 4,
    nKeys: 32,
    keyDim: 16,
    seed: 1,
  })
  return { layer, optimizer: new AdamW(layer.parameters(), { lr: 1e-3 }) }
}

function train({ layer, optimizer }: ReturnType<typeof start>, from: number, to: number): void {
  for (let step = from; step < to; step++) {
    const x = device.normal([64, 16], { seed: step })
    const { output, context } = layer.forward(x)
    layer.backward(context, output)
    optimizer.step()
    optimizer.zeroGrad()
  }
}

// Layer and optimizer in one file, under prefixes.
const prefixed = (prefix: string, state: StateDict) =>
  Object.fromEntries(Object.entries(state).map(([n, t]) => [`${prefix}.${n}`, t]))
const withoutPrefix = (prefix: string, all: StateDict) =>
  Object.fromEntries(
    Object.entries(all)
      .filter(([n]) => n.startsWith(`${prefix}.`))
      .map(([n, t]) => [n.slice(prefix.length + 1), t]),
  )

const folder = await mkdtemp(join(tmpdir(), 'memory-layers-'))
const path = join(folder, 'checkpoint.safetensors')

const first = start()
train(first, 0, 20)
const state = {
  ...prefixed('layer', first.layer.stateDict()),
  ...prefixed('optimizer', first.optimizer.stateDict()),
}
await saveSafetensors(path, state, { metadata: { step: '20' } })
console.log(`saved ${Object.keys(state).length} tensors at step 20`)
train(first, 20, 40)

const second = start()
const saved = await loadSafetensors(path, { device })
second.layer.loadStateDict(withoutPrefix('layer', saved))
second.optimizer.loadStateDict(withoutPrefix('optimizer', saved))
train(second, 20, 40)

const end = async (run: ReturnType<typeof start>) =>
  Buffer.from((await run.layer.values.weight.data()).buffer)
console.log(`same bits at step 40: ${(await end(first)).equals(await end(second))}`)
await rm(folder, { recursive: true })
