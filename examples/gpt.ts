// Trains a character model with a memory layer on a text, with a progress bar, and writes a chart
// of its loss and a sample. Stopped with Ctrl-C it saves a checkpoint; the next call goes on there.
//
//   npx tsx examples/gpt.ts [text file] [steps] [folder]

import { mkdirSync, writeFileSync } from 'node:fs'
import * as Plot from '@observablehq/plot'
import cliProgress from 'cli-progress'
import { parseHTML } from 'linkedom'
import { AdamW, openDevice } from 'memory-layers'
import { fit, schedules, TextDataset, Transformer } from 'memory-layers/nn'

const [text = 'README.md', stepsText = '200', folder = 'gpt'] = process.argv.slice(2)
const steps = Number(stepsText)
const contextLength = 64
const device = openDevice()
const data = await TextDataset.load(text, { device, contextLength, batchSize: 16 })
const tokenizer = data.tokenizer!

const model = new Transformer(device, {
  vocabSize: new Set(data.tokens).size,
  dim: 128,
  layers: 3,
  heads: 4,
  contextLength,
  feedForward: { kind: 'swiglu', hiddenDim: 344 },
  memory: { layers: [1], nKeys: 64, heads: 4, knn: 16, keyDim: 128 },
  tieEmbeddings: true,
  seed: 1,
})
console.log(model.describe())

const optimizer = new AdamW(model.parameters(), { lr: 2e-3, tableLr: 1e-2, weightDecay: 0.01 })
const format = '{bar} {value}/{total} steps, loss {loss}, {rate} tokens/s'
const bar = new cliProgress.SingleBar({ format, stream: process.stdout })
const points: { step: number; loss: number }[] = []
const abort = new AbortController()
process.once('SIGINT', () => abort.abort())
mkdirSync(folder, { recursive: true })
const path = `${folder}/checkpoint.safetensors`

bar.start(steps, 0, { loss: '-', rate: '-' })
await fit(model, data, {
  optimizer,
  steps,
  schedule: schedules.warmupCosine({ warmup: Math.ceil(steps / 10), total: steps, floor: 0.1 }),
  clip: 1,
  checkpoint: { path, every: 100 },
  resume: true,
  signal: abort.signal,
  onStep: ({ step, loss, tokensPerSecond }) => {
    points.push({ step, loss })
    bar.update(step, { loss: loss.toFixed(3), rate: tokensPerSecond.toFixed(0) })
  },
})
bar.stop()

const { document } = parseHTML('<!doctype html><html><body></body></html>')
const chart = Plot.plot({
  document: document as never,
  x: { label: 'step' },
  y: { label: 'loss', grid: true },
  marks: [Plot.line(points, { x: 'step', y: 'loss' })],
})
const svg = chart.outerHTML.replace('<svg', '<svg xmlns="http://www.w3.org/2000/svg"')
writeFileSync(`${folder}/loss.svg`, svg)

const prompt = Array.from(data.tokens.subarray(0, 8))
const last = points.at(-1)
if (last) console.log(`step ${last.step}: loss ${last.loss.toFixed(2)}, all in ${folder}/loss.svg`)
process.stdout.write(tokenizer.decode(prompt))
for await (const token of model.generate(prompt, { temperature: 0.8, topP: 0.95, seed: 1 }))
  process.stdout.write(tokenizer.decode([token]))
process.stdout.write('\n')
