import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { beforeAll, expect, test } from 'vitest'
import { testDevices } from './support/devices.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const entry = `file://${root}dist/index.js`
const script = fileURLToPath(new URL('./support/worker.mjs', import.meta.url))

beforeAll(() => {
  if (!existsSync(`${root}dist/index.js`)) throw new Error('dist/ is missing: run `npm run build`')
})

function start(data: Record<string, unknown>): {
  worker: Worker
  message: Promise<string>
  exit: Promise<number>
} {
  const worker = new Worker(script, {
    workerData: { entry, device: 'cpu', tokens: 128, threads: 2, seed: 1, steps: 20, ...data },
  })
  const message = new Promise<string>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return { worker, message, exit: new Promise((resolve) => worker.once('exit', resolve)) }
}

test.each(testDevices)(
  'two workers at once compute the bits of one alone, on %s',
  async (device) => {
    const work = { device, ...(device === 'simt' && { tokens: 8, steps: 2 }) }
    const alone = start({ ...work, threads: 1 })
    const wanted = await alone.message
    expect(wanted).toMatch(/^[0-9a-f]{64}$/)
    await alone.exit
    const both = [start(work), start(work)]
    expect(await Promise.all(both.map((b) => b.message))).toEqual([wanted, wanted])
    expect(await start({ ...work, seed: 2 }).message).not.toBe(wanted)
    await Promise.all(both.map((b) => b.exit))
  },
)

test.each(testDevices)(
  'a worker may exit or be terminated in the middle of its work, on %s',
  async (device) => {
    const tokens = device === 'simt' ? 2 : 128
    for (let round = 0; round < (device === 'simt' ? 1 : 3); round++) {
      const leaving = start({ device, tokens, leave: 'exit', steps: device === 'simt' ? 2 : 100 })
      await leaving.message
      expect(await leaving.exit).toBe(0)
      const steps = device === 'simt' ? 4 : 300
      const terminated = start({ device, tokens, leave: 'terminate', steps })
      await terminated.message
      await terminated.worker.terminate()
    }
  },
)

// Programs that run in separate processes: a crash must fail one test.
const importAddon = `import(${JSON.stringify(entry)})`
const workerData = { entry, device: 'cpu', tokens: 128, threads: 2, seed: 1, steps: 5 }

// The addon is unloaded with the only worker that loaded it; its threads must survive that.
const onlyWorker = `
const { Worker } = require('node:worker_threads')
const options = { workerData: ${JSON.stringify(workerData)} }
new Worker(${JSON.stringify(script)}, options).on('exit', () => setTimeout(() => {}, 200))`

// Terminated between two calls into its environment, where a worker could crash the process.
const terminated = `
const { Worker } = require('node:worker_threads')
const { once } = require('node:events')
const busy = \`
  import('node:worker_threads').then(async ({ parentPort }) => {
    const { openDevice } = await ${importAddon}
    const device = openDevice('cpu', { threads: 1 })
    const data = new Float32Array(1)
    const tensor = device.zeros([1])
    parentPort.postMessage('busy')
    for (;;) tensor.write(data)
  })\`
const run = async () => {
  for (let round = 0; round < 15; round++) {
    const workers = [0, 1].map(() => new Worker(busy, { eval: true }))
    await Promise.all(workers.map((worker) => once(worker, 'message')))
    await new Promise((resolve) => setTimeout(resolve, 2))
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
}
run()`

const exitWithWork = `
${importAddon}.then(({ openDevice }) => {
  const device = openDevice('cpu')
  for (let seed = 0; seed < 200; seed++) device.normal([100000], { seed })
  process.exit(0)
})`

const pendingRead = `
${importAddon}.then(({ openDevice }) => {
  openDevice('cpu').normal([100000], { seed: 1 }).data()
})`

const closedDevice = `
${importAddon}.then(async ({ openDevice }) => {
  const device = openDevice('cpu', { threads: 3 })
  globalThis.tensor = device.zeros([4096])
  await device.close()
})`

test.each([
  ['the main thread exits with a tensor of a device that was closed', closedDevice],
  ['the only worker that loaded the addon exits', onlyWorker],
  ['workers are terminated in the middle of calls', terminated],
  ['the main thread exits with work enqueued', exitWithWork],
  ['the process ends by itself after its last read', pendingRead],
])('%s', (_, program) => {
  const { status, stderr, signal } = spawnSync(process.execPath, ['-e', program], {
    encoding: 'utf8',
    timeout: 30_000,
  })
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
})
