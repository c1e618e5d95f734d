import type {
  MemoryLayer,
  MemoryLayerOptions,
  Parameter,
  PeerLayer,
  Tensor,
} from '../../lib/index.js'
import { dot, expectDirectionalGradient } from './finite-differences.js'
import { gradientOf } from './optimizer.js'
import { rowsOf } from './rows.js'

/** A memory layer of 36 slots. */
export const small: MemoryLayerOptions = {
  inputDim: 12,
  heads: 2,
  knn: 4,
  nKeys: 6,
  keyDim: 8,
  seed: 3,
}

/** The values of parameters as numbers. */
export function valuesOf(parameters: readonly Parameter[]): Promise<number[][]> {
  return Promise.all(parameters.map(async (p) => Array.from(await p.value.data())))
}

/** The gradients of parameters as numbers; those of a table as touched rows and their values. */
export function gradientsOf(parameters: readonly Parameter[]) {
  return Promise.all(
    parameters.map(async (p) => {
      if (p.kind === 'dense') return { values: Array.from(await p.grad.data()) }
      const { rows, values } = await p.grad.data()
      return { rows: Array.from(rows), values: Array.from(values) }
    }),
  )
}

/**
 * Every gradient of a layer, and that of its input, must equal the directional derivative of the
 * loss <dy, output>. The loss is smooth while each head selects the same slots, in any order.
 */
export async function expectLayerGradients(
  layer: MemoryLayer | PeerLayer,
  x: Tensor,
  dy: Tensor,
): Promise<void> {
  const dyData = (await dy.data()) as Float32Array
  const evaluate = async () => {
    const { output, context } = layer.forward(x)
    const { indices } = context.lookup()
    const heads = rowsOf(Array.from(await indices.data()), indices.shape.at(-1)!)
    const selection = heads.map((slots) => slots.sort((a, b) => a - b).join()).join(';')
    return { loss: dot((await output.data()) as Float32Array, dyData), selection }
  }
  const dx = layer.backward(layer.forward(x).context, dy)
  const options = { steps: [2e-3, 1e-3, 3e-4], tolerance: 0.03 }
  for (const p of layer.parameters())
    await expectDirectionalGradient(p.name, await gradientOf(p), evaluate, p.value, options)
  await expectDirectionalGradient('x', await dx.data(), evaluate, x, options)
}
