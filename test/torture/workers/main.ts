// Workers that are ended in every state: terminated, or left by process.exit, while they open a
// device, compute, read, save, load, map and dispose. The process must neither crash nor hang, and
// the main thread's device must compute the same bits afterwards.

import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import {
  AdamW,
  type Device,
  type DeviceName,
  devices,
  loadSafetensors,
  MemoryLayer,
  openDevice,
} from '../../../lib/index.js'
import { uniform } from '../../support/random.js'
import { Part } from '../part.js'

const wanted = 1000
// As actions.mjs has them, and two before there is a device.
const states = [
  'load the package',
  'open',
  'write',
  'forward',
  'backward',
  'step',
  'pending reads',
  'blocking read',
  'synchronize',
  'fault',
  'save',
  'load a file',
  'map a file',
  'transfer',
  'dispose',
  'close',
  'collect',
]
const entry = new URL('../../../dist/index.js', import.meta.url).href
const script = fileURLToPath(new URL('./worker.mjs', import.meta.url))
const part = new Part()
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-workers-'))
const available = devices().filter((d) => d.available)

/** A digest of a short training run on the main thread's device. */
async function train(device: Device): Promise<string> {
  const tokens = device.kind === 'simt' ? 4 : 64
  const layer = new MemoryLayer(device, {
    inputDim: 16,
    heads: 2,
    knn: 4,
    nKeys: 8,
    keyDim: 8,
    seed: 1,
  })
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
  for (let seed = 0; seed < 2; seed++) {
    using x = device.normal([tokens, 16], { seed })
    const { output, context } = layer.forward(x)
    layer.backward(context, output).dispose()
    output.dispose()
    optimizer.step()
    optimizer.zeroGrad()
  }
  const hash = createHash('sha256')
  for (const p of layer.parameters()) {
    const data = await p.value.data()
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
  }
  optimizer.dispose()
  layer.dispose()
  return hash.digest('hex')
}

let workers = 0

/** Starts a worker, waits until it is in its state, and ends it after a moment of chance. */
async function endOne(state: string, device: string, chance: number, leave: boolean) {
  const worker = new Worker(script, {
    workerData: { entry, device, state, leave, file: join(folder, `${workers++}.safetensors`) },
  })
  const ended = new Promise<string>((resolve) => {
    worker.once('exit', () => resolve(''))
    worker.once('error', (error) => resolve(String(error.stack ?? error)))
  })
  const begun = new Promise<void>((resolve) => worker.once('message', () => resolve()))
  await Promise.race([begun, ended])
  await sleep(chance * 4)
  if (!leave) void worker.terminate()
  const timer = new AbortController()
  const late = sleep(30_000, 'does not end', { signal: timer.signal }).catch(() => '')
  const wrong = await Promise.race([ended, late])
  timer.abort()
  part.check(wrong === '', () => `worker in state ${state} on ${device}: ${wrong}`)
  part.count(`workers ended on ${device}`)
}
const digests = new Map<Device, string>()
for (const { name } of available) {
  const device = openDevice(name as DeviceName)
  digests.set(device, await train(device))
}

async function checkMainThread(): Promise<void> {
  for (const [device, digest] of digests) {
    const got = await train(device)
    part.check(got === digest, () => `the main thread's ${device.name} computes other bits`)
    part.count('digests of the main thread compared')
  }
}

const chances = uniform(wanted + 8, part.seed)
let started = 0
while (started < wanted && part.timeLeft()) {
  const batch = Array.from({ length: 8 }, () => {
    const n = started++
    const state = states[n % states.length]!
    const slow = n % 10 === 9 ? available.at(-1)! : available[0]!
    const chance = (chances[n]! + 1) / 2
    return endOne(state, slow.name, chance, n % 7 === 6)
  })
  await Promise.all(batch)
  if (started % 40 === 0) await checkMainThread()
}
await checkMainThread()
part.count('states', states.length)

// A save that is cut short leaves no file of its name, or a whole one.
const left = existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith('.safetensors')) : []
part.count('files that ended workers had saved', left.length)
for (const name of left) {
  const loaded = await loadSafetensors(join(folder, name), { device: openDevice('cpu') }).catch(
    (error) => error as Error,
  )
  part.check(!(loaded instanceof Error), () => `${name} is torn: ${loaded}`)
}
rmSync(folder, { recursive: true, force: true })
part.end()
