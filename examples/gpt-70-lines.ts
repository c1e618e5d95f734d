// A character model with a memory layer in place of one feed-forward, from a text to samples.
//   npx tsx examples/gpt-70-lines.ts [train [steps] | resume [steps] | sample [prompt]]
// GPT_TEXT names the text, GPT_FILE the checkpoint.

import { existsSync } from 'node:fs'
import { AdamW, clipGradNorm, noGrad, openDevice } from 'memory-layers'
import { loadCheckpoint, saveCheckpoint, TextDataset, Transformer } from 'memory-layers/nn'

const { GPT_TEXT: textFile = 'README.md', GPT_FILE: path = 'gpt.safetensors' } = process.env
const [command = 'train', argument] = process.argv.slice(2)
const contextLength = 128
const device = openDevice()
const options = { device, contextLength, batchSize: 16 }
const all = await TextDataset.load(textFile, options)
const tokenizer = all.tokenizer!
const split = Math.floor(all.tokens.length * 0.9)
const data = new TextDataset(all.tokens.subarray(0, split), options)
const heldOut = new TextDataset(all.tokens.subarray(split), { ...options, batchSize: 4 })
const model = new Transformer(device, {
  vocabSize: new Set(all.tokens).size,
  dim: 128,
  layers: 3,
  heads: 4,
  contextLength,
  feedForward: { kind: 'gelu' },
  memory: { layers: [1], nKeys: 64, heads: 4, knn: 16, keyDim: 128 },
})
const optimizer = new AdamW(model.parameters(), { lr: 1e-3, weightDecay: 0.01 })
console.log(model.countParameters(), 'parameters')

async function sample(prompt: string): Promise<string> {
  const ids: number[] = []
  const tokens = Array.from(tokenizer.encode(prompt) as number[])
  for await (const token of model.generate(tokens, { temperature: 0.8 })) ids.push(token)
  return prompt + tokenizer.decode(ids)
}

let first = 1
if (command !== 'train' && existsSync(path)) {
  const { state } = await loadCheckpoint(path, { model, optimizer, data })
  first = (state as { step: number }).step + 1
}
if (command === 'sample') console.log(await sample(argument ?? 'The '))
else await train(first, first + Number(argument ?? 300) - 1)

async function train(from: number, to: number): Promise<void> {
  const batches = data[Symbol.iterator]()
  for (let step = from; step <= to; step++) {
    using batch = batches.next().value!
    using loss = model.loss(batch.tokens, batch.targets)
    loss.backward()
    using norm = clipGradNorm(model.parameters(), 1)
    optimizer.lr = 1e-3 * Math.min(1, step / 20)
    optimizer.step()
    optimizer.zeroGrad()
    if (step % 20 === 0 || step === from || step === to)
      console.log(step, (await loss.data())[0], (await norm.data())[0])
  }
  using batch = heldOut[Symbol.iterator]().next().value!
  using loss = noGrad(() => model.loss(batch.tokens, batch.targets))
  console.log('held-out', (await loss.data())[0])
  await saveCheckpoint(path, { model, optimizer, data, state: { step: to } })
  console.log(await sample('The '))
}
