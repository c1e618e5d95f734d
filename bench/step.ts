// A training step costs O(touched rows): the same batch over tables of growing size. Interleaved, medians.

import { parseArgs } from 'node:util'
import { AdamW, MemoryLayer, openDevice } from '../lib/index.js'

const { values } = parseArgs({
  options: {
    repeats: { type: 'string', default: '31' },
    profile: { type: 'boolean', default: false },
    nKeys: { type: 'string', default: '256,362,512,724,1024' },
  },
})
const repeats = Number(values.repeats)
const sizes = values.nKeys.split(',').map(Number)
const device = openDevice('cpu')
const dim = 128
const tokens = 512

// The query reads of every size are the same: the half-keys of a larger table are those of the smallest, repeated. So the slots differ, and the
// touched rows are as many.
const runs = sizes.map((nKeys) => {
  const layer = new MemoryLayer(device, { inputDim: dim, heads: 4, knn: 16, nKeys, keyDim: 64, seed: 1 })
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-3 })
  return { nKeys, layer, optimizer, update: [] as number[], step: [] as number[], rows: 0 }
})
if (values.profile) runs.splice(1)
const x = device.normal([tokens, dim], { seed: 1 })
const dy = device.normal([tokens, dim], { seed: 2 })

for (let repeat = 0; repeat < repeats + 3; repeat++) {
  if (repeat === 3) device.profile() // forget the warm-up
  for (const run of runs) {
    await device.synchronize()
    const start = performance.now()
    const { output, context } = run.layer.forward(x)
    const dx = run.layer.backward(context, dy)
    await device.synchronize()
    const middle = performance.now()
    run.optimizer.step()
    run.optimizer.zeroGrad()
    await device.synchronize()
    const end = performance.now()
    output.dispose()
    dx.dispose()
    if (repeat < 3) continue
    run.update.push(end - middle)
    run.step.push(end - start)
  }
}
const times = Object.entries(device.profile()).sort((a, b) => b[1].milliseconds - a[1].milliseconds)
for (const run of runs) {
  run.layer.backward(run.layer.forward(x).context, dy)
  run.rows = (await run.layer.values.gradient().data()).rows.length
}

const median = (list: number[]) => [...list].sort((a, b) => a - b)[list.length >> 1]!
console.log(`${device.description}; ${tokens} tokens, 4 heads, k 16, width ${dim}, AdamW; medians of ${repeats}\n`)
console.log('  table rows   touched rows   update ms   step ms   scores ms a step grow with n, not with the rows')
for (const run of runs) {
  const cells = [run.nKeys ** 2, run.rows, median(run.update).toFixed(3), median(run.step).toFixed(3)]
  console.log(
    `  ${String(cells[0]).padStart(10)}   ${String(cells[1]).padStart(12)}   ${String(cells[2]).padStart(9)}   ${String(cells[3]).padStart(7)}`,
  )
}

if (values.profile) {
  const total = times.reduce((sum, [, t]) => sum + t.milliseconds, 0)
  console.log('\n  operation                          share    ms a call')
  for (const [name, t] of times) {
    console.log(
      `  ${name.padEnd(32)} ${((100 * t.milliseconds) / total).toFixed(1).padStart(6)} %   ${(t.milliseconds / t.calls).toFixed(3).padStart(9)}`,
    )
  }
}
