// Outputs and gradients of the published implementation: every golden file, within 1e-5 of each
// tensor's magnitude.

import { expect, test } from 'vitest'
import { MemoryLayer, ops, PeerLayer, type Tensor, ValueTable } from '../../lib/index.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { type Golden, golden } from '../support/golden.js'
import { expectIndices } from '../support/lookup.js'

onEveryDevice((device) => {
  const upload = (g: Golden, key: string, shape?: readonly number[]): Tensor => {
    const t = g.tensors[key]!
    return device.tensor(t.data, shape ?? t.shape)
  }
  const close = async (label: string, got: Tensor, g: Golden, key: string) =>
    expectClose(label, await got.data(), g.tensors[key]!.data)

  test.each(['lookup-small', 'lookup-odd', 'lookup-128'])('%s', async (file) => {
    const g = golden(file)
    const [tokens, heads, kDim, n, k] = ['tokens', 'heads', 'k_dim', 'n_keys', 'knn'].map((m) =>
      Number(g.meta[m]),
    ) as [number, number, number, number, number]
    const query = upload(g, 'query', [tokens, heads, 2, kDim / 2])
    const keys = upload(g, 'keys', [heads, 2, n, kDim / 2])
    const lookup = ops.productKeyLookup(query, keys, { knn: k })
    await close('scores', lookup.scores, g, 'scores')
    await close('weights', lookup.weights, g, 'probabilities')
    const got = await lookup.indices.data()
    const { data: wanted } = g.tensors['indices']!
    expectIndices(got, { indices: wanted, scores: g.tensors['scores']!.data }, k)
    if (file !== 'lookup-128') expect(Array.from(got)).toEqual(Array.from(wanted))
    const dWeights = upload(g, 'dprobabilities', [tokens, heads, k])
    const { dQuery, dKeys } = ops.productKeyLookupBackward(lookup, dWeights, { query, keys })
    await close('dquery', dQuery, g, 'dquery')
    await close('dkeys', dKeys, g, 'dkeys')
  })

  test.each(['bag-uniform', 'bag-zipf', 'bag-odd'])('%s', async (file) => {
    const g = golden(file)
    const [table, indices, weights, dy] = ['table', 'indices', 'weights', 'dy'].map((key) =>
      upload(g, key),
    ) as [Tensor, Tensor, Tensor, Tensor]
    await close('y', ops.embeddingBag(table, indices, weights), g, 'y')
    const { dWeights, dTable } = ops.embeddingBagBackward(dy, table, indices, weights)
    await close('dweights', dWeights, g, 'dweights')
    await close('dtable', dTable.toDense(), g, 'dtable')
    const { rows } = await dTable.data()
    expect(Array.from(rows)).toEqual([...new Set(g.tensors['indices']!.data)].sort((a, b) => a - b))
  })

  const options = (g: Golden, values?: ValueTable) => {
    const m = g.meta
    return {
      inputDim: Number(m['input_dim']),
      outputDim: Number(m['output_dim']),
      heads: Number(m['mem_heads']),
      knn: Number(m['mem_knn']),
      nKeys: Number(m['mem_n_keys']),
      keyDim: Number(m['mem_k_dim']),
      ...(m['peer_variant']
        ? {}
        : { gate: m['swilu_projection'] === 'True' ? ('silu' as const) : ('none' as const) }),
      ...(m['mem_gated'] ? { outputGate: true } : {}),
      ...(m['mem_v_dim'] ? { valueDim: Number(m['mem_v_dim']) } : {}),
      ...(values ? { values } : {}),
    }
  }
  const state = (g: Golden, layer: number) => {
    const prefix = `layer${layer}.`
    const names = Object.keys(g.tensors).filter(
      (key) => key.startsWith(prefix) && !key.endsWith('.grad') && !/\.(indices|scores)$/.test(key),
    )
    return Object.fromEntries(names.map((key) => [key.slice(prefix.length), upload(g, key)]))
  }
  const gradients = async (g: Golden, layer: number, parameters: MemoryLayer | PeerLayer) => {
    for (const p of parameters.parameters()) {
      const grad = p.kind === 'dense' ? p.grad : p.grad.toDense()
      const owner = p.kind === 'table' && g.meta['layers'] !== '1' ? 0 : layer // of a shared table
      const key = `layer${owner}.${p.name}.grad`
      expectClose(key, await grad.data(), g.tensors[key]!.data)
    }
  }

  test.each(['memory-plain', 'memory-plus', 'memory-gated', 'memory-vdim', 'peer'])(
    '%s',
    async (file) => {
      const g = golden(file)
      const layer =
        file === 'peer' ? new PeerLayer(device, options(g)) : new MemoryLayer(device, options(g))
      layer.loadStateDict(state(g, 0))
      const { output, context } = layer.forward(upload(g, 'x'))
      expect(output.shape).toEqual(g.tensors['y']!.shape)
      await close('y', output, g, 'y')
      const found = context.lookup()
      expect(Array.from(await found.indices.data())).toEqual(
        Array.from(g.tensors['layer0.indices']!.data),
      )
      await close('scores', found.scores, g, 'layer0.scores')
      const dx = layer.backward(context, upload(g, 'dy'))
      await close('dx', dx, g, 'dx')
      await gradients(g, 0, layer)
    },
  )

  test('memory-plus-shared3: three residual layers over one table', async () => {
    const g = golden('memory-plus-shared3')
    const [slots, dim] = g.tensors['layer0.values.weight']!.shape as [number, number]
    const values = new ValueTable(device, { slots, dim })
    values.load(upload(g, 'layer0.values.weight'))
    const layers = [0, 1, 2].map((i) => {
      const layer = new MemoryLayer(device, options(g, values))
      const { 'values.weight': _, ...dense } = state(g, i)
      layer.loadStateDict(dense)
      return layer
    })
    let h = upload(g, 'x')
    const contexts = layers.map((layer) => {
      const { output, context } = layer.forward(h)
      h = ops.add(h, output)
      return context
    })
    await close('y', h, g, 'y')
    let dh = upload(g, 'dy')
    for (const i of [2, 1, 0]) dh = ops.add(dh, layers[i]!.backward(contexts[i]!, dh))
    await close('dx', dh, g, 'dx')
    for (const [i, layer] of layers.entries()) await gradients(g, i, layer)
  })
})
