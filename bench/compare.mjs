// Two builds of the package in one process, case by case in turn: both see the same machine.
//   node bench/compare.mjs BASE/dist NEW/dist [--only regexp] [--rounds n] [--threads n]
// Prints the median time of each and the median of the ratios of neighbouring rounds: above 1, the
// second is slower. Times of a call are until it returns; all others until its work has run.

import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    rounds: { type: 'string' },
    threads: { type: 'string' },
  },
})
if (positionals.length !== 2) {
  console.error(
    'usage: node bench/compare.mjs BASE/dist NEW/dist [--only regexp] [--rounds n] [--threads n]',
  )
  process.exit(2)
}
const rounds = Number(values.rounds ?? 41)
const threads = values.threads === undefined ? undefined : Number(values.threads)
const only = new RegExp(values.only ?? '')
const builds = await Promise.all(
  positionals.map((folder) => import(pathToFileURL(join(resolve(folder), 'index.js')).href)),
)

/** A case of one build: `run` is timed, `after` is not. `calls` are made in a run. */
function layerCases(ml, device, size, options, tokens, dtype) {
  const layer = new ml.MemoryLayer(device, { ...options, dtype, seed: 1 })
  const optimizer = new ml.AdamW(layer.parameters(), { lr: 1e-3 })
  const x = device.normal([tokens, options.inputDim], { seed: 1 })
  const dy = device.normal([tokens, options.inputDim], { seed: 2 })
  const sync = () => device.synchronize()
  let saved
  const forward = () => {
    saved = layer.forward(x)
  }
  const drop = () => {
    saved.output.dispose()
    saved.context.dispose()
  }
  const backward = () => layer.backward(saved.context, dy).dispose()
  const reset = () => {
    saved.output.dispose()
    optimizer.zeroGrad()
    return sync()
  }
  const waited = (...calls) => {
    return () => {
      for (const call of calls) call()
      return sync()
    }
  }
  return {
    [`forward, ${size}`]: { run: waited(forward), after: waited(drop) },
    [`backward, ${size}`]: { before: waited(forward), run: waited(backward), after: reset },
    [`step, ${size}`]: {
      before: waited(forward, backward),
      run: waited(() => optimizer.step()),
      after: reset,
    },
    [`call of forward, backward and step, ${size}`]: {
      run: () => {
        forward()
        backward()
        optimizer.step()
      },
      after: reset,
    },
  }
}

function attentionCases(ml, device, batch, time, width) {
  const shape = [batch, time, 4, width]
  const [q, k, v, dy] = [1, 2, 3, 4].map((seed) => device.normal(shape, { seed }))
  const { y, lse } = ml.ops.attention(q, k, v)
  const size = `${batch} x ${time}, 4 heads of ${width}`
  const timed = (call) => ({
    run: () => {
      for (const t of Object.values(call())) t.dispose()
      return device.synchronize()
    },
  })
  return {
    [`attention, ${size}`]: timed(() => ml.ops.attention(q, k, v)),
    [`attention backward, ${size}`]: timed(() => ml.ops.attentionBackward(dy, { q, k, v, y, lse })),
  }
}

function casesOf(ml, build) {
  const device = ml.openDevice('cpu', { threads })
  const sync = () => device.synchronize()
  const small = { inputDim: 64, heads: 2, knn: 8, nKeys: 32, keyDim: 32 }
  const middle = { inputDim: 256, heads: 4, knn: 32, nKeys: 128, keyDim: 128 }
  const x = device.normal([4, 8], { seed: 1 })
  const out = device.empty([4, 8])
  const bag = { T: 512, L: 32, N: 2 ** 16, V: 128 }
  const table = device.normal([bag.N, bag.V], { seed: 1 })
  const indices = device.tensor(
    Int32Array.from({ length: bag.T * bag.L }, (_, i) => (i * 7919) % bag.N),
    [bag.T, bag.L],
  )
  const weights = device.normal([bag.T, bag.L], { seed: 2 })
  const large = device.normal([2 ** 26], { seed: 3 })
  const path = join(tmpdir(), `memory-layers-compare-${process.pid}-${build}.safetensors`)
  process.on('exit', () => rmSync(path, { force: true }))
  const many = (n, f) => () => {
    for (let i = 0; i < n; i++) f()
  }
  return {
    '1000 calls of add': { run: many(1000, () => ml.ops.add(x, x, { out })), after: sync },
    '1000 calls of add, a new result': {
      run: many(1000, () => ml.ops.add(x, x).dispose()),
      after: sync,
    },
    '1000 calls of linear': {
      run: many(1000, () => ml.ops.linear(x, x, undefined).dispose()),
      after: sync,
    },
    '1000 writes': { run: many(1000, () => x.write([...Array(32).keys()])), after: sync },
    '100 times data(), 32 numbers': {
      run: async () => {
        for (let i = 0; i < 100; i++) await x.data()
      },
    },
    '100 times dataSync(), 32 numbers': { run: many(100, () => x.dataSync()) },
    embeddingBag: {
      run: () => {
        ml.ops.embeddingBag(table, indices, weights).dispose()
        return sync()
      },
    },
    ...attentionCases(ml, device, 8, 128, 32),
    ...attentionCases(ml, device, 8, 128, 64),
    ...attentionCases(ml, device, 2, 1024, 32),
    ...attentionCases(ml, device, 2, 1024, 64),
    ...layerCases(ml, device, 'small', small, 16, 'float32'),
    ...layerCases(ml, device, 'middle', middle, 512, 'float32'),
    ...layerCases(ml, device, 'middle, bfloat16 table', middle, 512, 'bfloat16'),
    'save 256 MB': { run: () => ml.saveSafetensors(path, { large }), rounds: 5 },
  }
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}

async function time({ before, run, after }) {
  await before?.()
  const start = performance.now()
  await run()
  const took = performance.now() - start
  await after?.()
  return took
}

const cases = builds.map(casesOf)
console.log(`${'case'.padEnd(52)}${'base ms'.padStart(10)}${'new ms'.padStart(10)}  new / base`)
for (const name of Object.keys(cases[0]).filter((n) => only.test(n))) {
  const pair = cases.map((c) => c[name])
  for (let i = 0; i < 3; i++) for (const c of pair) await time(c)
  const [base, next] = [[], []]
  for (let i = 0; i < (pair[0].rounds ?? rounds); i++) {
    // who goes first alternates
    if (i % 2 === 0) base.push(await time(pair[0]))
    next.push(await time(pair[1]))
    if (i % 2 === 1) base.push(await time(pair[0]))
  }
  const ratio = median(next.map((t, i) => t / base[i]))
  const times = [base, next].map((t) => median(t).toFixed(3).padStart(10)).join('')
  console.log(`${name.padEnd(52)}${times}  ${ratio.toFixed(3)}`)
}
process.exit(0)
