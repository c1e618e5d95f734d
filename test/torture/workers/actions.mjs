// What a worker is doing when it is ended: each action is called again and again.

import { existsSync } from 'node:fs'

const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 8, keyDim: 8 }

/** By state, for those that need a device. */
export function actions(ml, device, file) {
  const T = device.kind === 'simt' ? 2 : 64
  const layer = new ml.MemoryLayer(device, options)
  const optimizer = new ml.AdamW(layer.parameters(), { lr: 1e-3 })
  const x = device.normal([T, 16], { seed: 1 })
  const step = () => {
    const { output, context } = layer.forward(x)
    layer.backward(context, output).dispose()
    output.dispose()
  }
  const other = ml.openDevice('cpu', { threads: 2 })
  const yieldOnce = () => new Promise(setImmediate)
  return {
    write: () => x.write(new Float32Array(T * 16)),
    forward: () => layer.infer(x).dispose(),
    backward: step,
    step: () => {
      step()
      optimizer.step()
      optimizer.zeroGrad()
    },
    'pending reads': () => {
      for (let i = 0; i < 8; i++) void x.data().catch(() => {})
      return yieldOnce()
    },
    'blocking read': () => x.dataSync(),
    synchronize: () => device.synchronize(),
    fault: async () => {
      const bad = device.tensor(Int32Array.from([99]), [1, 1])
      await ml.ops
        .embeddingBag(x, bad, device.zeros([1, 1]))
        .data()
        .catch(() => {})
    },
    save: () => ml.saveSafetensors(file, layer.stateDict()),
    'load a file': async () => {
      if (!existsSync(file)) await ml.saveSafetensors(file, layer.stateDict())
      await ml.loadSafetensors(file, { device })
    },
    'map a file': async () => {
      if (!existsSync(file)) await ml.saveSafetensors(file, layer.stateDict())
      ml.ValueTable.map(file, 'values.weight', { device: other }).dispose()
    },
    transfer: () => x.to(other).to(device).data(),
    dispose: () => {
      new ml.MemoryLayer(device, options).dispose()
      return yieldOnce()
    },
    close: async () => {
      const opened = ml.openDevice('cpu', { threads: 3 })
      opened.zeros([1 << 12])
      await opened.close()
    },
    collect: () => {
      for (let i = 0; i < 50; i++) device.zeros([1 << 12])
      globalThis.gc?.()
      return yieldOnce()
    },
  }
}
