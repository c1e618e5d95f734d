import { describe, expect, test } from 'vitest'
import {
  type Device,
  keep,
  MemoryLayer,
  type MemoryLayerOptions,
  ops,
  type Parameter,
  PeerLayer,
  type StateDict,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import {
  Attention,
  type Compute,
  FeedForward,
  Linear,
  MixtureOfExperts,
  Transformer,
  type TransformerOptions,
} from '../../lib/nn/index.js'
import { expectClose } from '../support/close.js'
import { rounded, roundingComputes } from '../support/compute.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { small } from '../support/layers.js'

const query = { inputDim: 10, heads: 2, knn: 3, nKeys: 5, keyDim: 6 }

/** What all modules have in common here. */
interface Differentiable {
  parameters(): readonly Parameter[]
  loadStateDict(state: StateDict): void
  stateDict(): StateDict
}

const layers: Record<string, (device: Device, compute: Compute) => Differentiable> = {
  Linear: (d, compute) => new Linear(d, { inputDim: 10, outputDim: 7, compute, seed: 1 }),
  FeedForward: (d, compute) => new FeedForward(d, { dim: 10, hiddenDim: 9, compute, seed: 1 }),
  Attention: (d, compute) =>
    new Attention(d, { dim: 10, heads: 2, headDim: 6, kvHeads: 1, compute, seed: 1 }),
  MixtureOfExperts: (d, compute) =>
    new MixtureOfExperts(d, { dim: 10, hiddenDim: 6, experts: 3, compute, seed: 1 }),
  MemoryLayer: (d, compute) =>
    new MemoryLayer(d, { ...query, outputDim: 7, outputGate: true, compute, seed: 1 }),
  'MemoryLayer with a query norm': (d, compute) =>
    new MemoryLayer(d, { ...query, queryNorm: 'rms', gate: 'none', compute, seed: 1 }),
  PeerLayer: (d, compute) => new PeerLayer(d, { ...query, compute, seed: 1 }),
}

const base = { vocabSize: 7, dim: 8, layers: 2, heads: 2, contextLength: 6, seed: 4 }
const lookups = { nKeys: 4, heads: 2, knn: 3, keyDim: 4 }
const moe = { kind: 'moe', experts: 3, hiddenDim: 5 } as const
const models: Record<string, Partial<TransformerOptions>> = {
  swiglu: { feedForward: { kind: 'swiglu', hiddenDim: 6 }, kvHeads: 1 },
  'swiglu, tied': { feedForward: { kind: 'swiglu', hiddenDim: 6 }, tieEmbeddings: true },
  gelu: { feedForward: { kind: 'gelu', hiddenDim: 5 }, headDim: 6 },
  'experts that tokens choose': { feedForward: moe },
  'experts that choose tokens': { feedForward: { ...moe, routing: 'expert' } },
  peer: { feedForward: { kind: 'peer', ...lookups } },
  'shared memory': { memory: { layers: [0, 1], ...lookups, valueDim: 4, outputGate: true } },
}
const tokens = [1, 2, 3, 4, 5, 6]
const targets = [2, 3, 4, 5, 6, 0]

// Operands of products that `compute` concerns: matrices, but no router, table or embedding.
function isOperand({ name, value, kind }: Parameter): boolean {
  return kind === 'dense' && value.shape.length > 1 && !name.includes('router')
}

async function roundOperands(compute: Compute, module: Differentiable): Promise<void> {
  const operands = module.parameters().filter(isOperand)
  expect(operands.length).toBeGreaterThan(0)
  for (const { value } of operands) {
    const exact = await value.data()
    value.write(await rounded(compute, value))
    expect(await value.data()).not.toEqual(exact)
  }
}

async function gradientsOf(module: Differentiable): Promise<Record<string, number[]>> {
  const entries = module.parameters().map(async (p) => {
    const dense: Tensor = p.kind === 'dense' ? p.grad : p.grad.toDense()
    return [p.name, Array.from(await dense.data())] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

async function runLayer(device: Device, layer: Differentiable) {
  const module = layer as unknown as Linear
  const x = device.normal([5, 10], { seed: 1 })
  const { output, context } = module.forward(x)
  const inferred = module.infer(x)
  const dx = module.backward(context, device.normal(output.shape, { seed: 2 }))
  expect(await inferred.data()).toEqual(await output.data())
  return {
    output: Array.from(await output.data()),
    dx: Array.from(await dx.data()),
    ...(await gradientsOf(layer)),
  }
}

async function runModel(model: Transformer) {
  const logits = model.apply(tokens)
  const loss = model.loss(tokens, targets)
  loss.backward()
  return {
    logits: Array.from(await logits.data()),
    loss: Array.from(await loss.data()),
    ...(await gradientsOf(model)),
  }
}

onEveryDevice((device) => {
  const computes = roundingComputes(device)

  // A weight whose product rounds it may be rounded before: nothing changes, forward or backward. A
  // product that does not round would give other numbers.
  describe.each(Object.entries(layers))('%s', (_, make) => {
    test.each(computes)('every operand of a product is rounded to %s', async (compute) => {
      const [exact, first] = [make(device, compute), make(device, compute)]
      await roundOperands(compute, first)
      expect(await runLayer(device, first)).toEqual(await runLayer(device, exact))
    })

    test.each(computes)('%s: parameters and results are float32, and near', async (compute) => {
      const [layer, wanted] = [make(device, compute), make(device, 'float32')]
      wanted.loadStateDict(layer.stateDict())
      for (const { value } of layer.parameters()) expect(value.dtype).toBe('float32')
      const got = await runLayer(device, layer)
      const near = await runLayer(device, wanted)
      expect(got.output).not.toEqual(near.output)
      expectClose('output', got.output, near.output, 0.05)
    })

    test('what the device does not compute is refused', async () => {
      if (device.kind === 'cpu') {
        const message = await errorOf('ERR_UNSUPPORTED', () => make(device, 'tf32'))
        expect(message).toContain(device.kind)
      }
      await errorOf('ERR_VALUE', () => make(device, 'float16' as Compute))
    })
  })

  test.each<[string, Partial<MemoryLayerOptions>]>([
    ['Memory+', {}],
    ['output gate', { outputGate: true }],
    ['no gate', { gate: 'none' }],
  ])('MemoryLayer, %s: as the operations that it is made of', async (_, options) => {
    const layer = new MemoryLayer(device, { ...small, ...options, compute: 'bfloat16' })
    const x = device.normal([5, 12], { seed: 1 }).requireGrad()
    const dy = device.normal([5, 12], { seed: 2 })
    const output = keep(memoryByHand(layer, x))
    output.backward(dy)
    const wanted = { output: await output.data(), dx: await x.grad!.data() }

    const forward = layer.forward(x)
    expect(await forward.output.data()).toEqual(wanted.output)
    const dx = layer.backward(forward.context, dy)
    expectClose('dx', await dx.data(), wanted.dx, 1e-6)
  })

  test('Linear tied to a table of 16-bit rows multiplies them as they are', async () => {
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const table = new ValueTable(device, { slots: 7, dim: 10, dtype, init: { seed: 1 } })
      const linear = new Linear(device, {
        inputDim: 10,
        outputDim: 7,
        weight: table,
        compute: 'bfloat16',
        seed: 2,
      })
      const x = device.normal([3, 10], { seed: 1 })
      const bias = linear.parameters().find((p) => p.name === 'bias')!.value
      const weight = table.weight.to('float32')
      const wanted = ops.linear(x, weight, bias, { compute: 'bfloat16' })
      expect(await linear.infer(x).data()).toEqual(await wanted.data())
      const { output, context } = linear.forward(x)
      linear.backward(context, output)
      expect((await table.gradient().toDense().data()).some((g) => g !== 0)).toBe(true)
    }
  })

  describe.each(Object.entries(models))('Transformer, %s', (_, options) => {
    const make = (compute: Compute) =>
      new Transformer(device, { ...base, ...options, compute } as TransformerOptions)

    test.each(computes)('every operand of a product is rounded to %s', async (compute) => {
      using exact = make(compute)
      using first = make(compute)
      await roundOperands(compute, first)
      expect(await runModel(first)).toEqual(await runModel(exact))
    })

    test.each(computes)('%s: the loss is near that of float32 products', async (compute) => {
      using model = make(compute)
      using wanted = make('float32')
      wanted.loadStateDict(model.stateDict())
      const [got, near] = [await runModel(model), await runModel(wanted)]
      expect(got.loss).not.toEqual(near.loss)
      expectClose('loss', got.loss, near.loss, 0.02)
    })
  })

  test('a Transformer generates what its logits say', async () => {
    using model = new Transformer(device, { ...base, compute: 'bfloat16' })
    const prompt = [1, 2]
    const generated: number[] = []
    for await (const token of model.generate(prompt, { maxTokens: 3, temperature: 0 }))
      generated.push(token)
    const sequence = [...prompt]
    for (let i = 0; i < 3; i++) {
      const logits = Array.from(await model.apply(sequence).data()).slice(-base.vocabSize)
      sequence.push(logits.indexOf(Math.max(...logits)))
    }
    expect(generated).toEqual(sequence.slice(2))
  })
})

function memoryByHand(layer: MemoryLayer, x: Tensor): Tensor {
  const compute = 'bfloat16'
  const named = (name: string) => layer.parameters().find((p) => p.name === name)?.value as Tensor
  const linear = (input: Tensor, name: string) =>
    ops.linear(input, named(`${name}.weight`), named(`${name}.bias`), { compute })
  const [tokens = 0] = x.shape
  const { heads = 0, knn = 0, keyDim = 0 } = small
  const found = ops.productKeyLookup(
    linear(x, 'query_proj.query_mlps.0').reshape([tokens, heads, 2, keyDim / 2]),
    named('keys'),
    { knn, compute },
  )
  const bag = [tokens, heads * knn]
  const read = ops.embeddingBag(
    layer.values.weight,
    found.indices.reshape(bag),
    found.weights.reshape(bag),
  )
  const { gate, outputGate } = layer.config
  let y: Tensor = read
  if (gate === 'silu') y = linear(ops.siluGate(y, linear(x, 'swilu_projection')), 'value_proj')
  return outputGate ? ops.sigmoidGate(y, linear(x, 'gating')) : y
}
