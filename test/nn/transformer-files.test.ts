import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type DType,
  loadSafetensors,
  openDevice,
  type StateDict,
  saveSafetensors,
} from '../../lib/index.js'
import { TextDataset, Transformer, type TransformerOptions } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { temporaryFolder } from '../support/files.js'
import { settledMemory } from '../support/garbage.js'

const tiny = new URL('../golden/llama-tiny', import.meta.url).pathname
const tied = new URL('../golden/llama-tied', import.meta.url).pathname
const root = temporaryFolder()
let folders = 0

function newFolder(): string {
  const folder = join(root, String(folders++))
  mkdirSync(folder)
  return folder
}

const configOf = (folder: string) =>
  JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>

/** A copy of llama-tiny whose config.json has other fields. */
function withConfig(changes: Record<string, unknown>, from = tiny): string {
  const folder = newFolder()
  copyFileSync(join(from, 'model.safetensors'), join(folder, 'model.safetensors'))
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...configOf(from), ...changes }))
  return folder
}

onEveryDevice((device) => {
  const load = (folder: string) => Transformer.load(folder, { device })
  const bitsOf = async (state: StateDict) => {
    const bits = Object.entries(state).map(
      async ([name, t]) => [name, t.dtype, t.shape, await t.bits()] as const,
    )
    return (await Promise.all(bits)).sort((a, b) => (a[0] < b[0] ? -1 : 1))
  }
  const bitsIn = async (folder: string) =>
    bitsOf(await loadSafetensors(join(folder, 'model.safetensors'), { device }))
  const logitsOf = (model: Transformer) => model.eval().apply([1, 2, 3, 4]).data()

  test.each([tiny, tied])('a saved folder has the tensors and the config of %s', async (from) => {
    using model = await load(from)
    const folder = join(newFolder(), 'new')
    await model.save(folder)
    expect(await bitsIn(folder)).toEqual(await bitsIn(from))
    expect(configOf(folder)).toMatchObject(configOf(from))
    using again = await load(folder)
    expect(await logitsOf(again)).toEqual(await logitsOf(model))
  })

  describe.each<DType>(['bfloat16', 'float16'])('%s files', (dtype) => {
    test('load rounded, and are saved in their dtype to the bit', async () => {
      const folder = withConfig({ torch_dtype: dtype })
      const state = await loadSafetensors(join(tiny, 'model.safetensors'), { device })
      const rounded = Object.fromEntries(
        Object.entries(state).map(([name, tensor]) => [name, tensor.to(dtype)]),
      )
      await saveSafetensors(join(folder, 'model.safetensors'), rounded)
      using model = await load(folder)
      const head = await model.stateDict()['lm_head.weight']!.data()
      expect(head).toEqual(await rounded['lm_head.weight']!.data())
      const saved = newFolder()
      await model.save(saved)
      expect(await bitsIn(saved)).toEqual(await bitsOf(rounded))
    })
  })

  test('an index of several files loads, but not what it leaves out or names twice', async () => {
    const folder = withConfig({})
    const state = await loadSafetensors(join(tiny, 'model.safetensors'), { device })
    const names = Object.keys(state)
    const parts = [names.slice(0, 7), names.slice(7)]
    const write = async (files: string[][]) => {
      const sharded = newFolder()
      copyFileSync(join(folder, 'config.json'), join(sharded, 'config.json'))
      const map: Record<string, string> = {}
      for (const [i, part] of files.entries()) {
        const file = `model-0000${i + 1}-of-00002.safetensors`
        for (const name of part) map[name] = file
        const tensors = Object.fromEntries(part.map((name) => [name, state[name]!]))
        await saveSafetensors(join(sharded, file), tensors)
      }
      const index = JSON.stringify({ metadata: {}, weight_map: map })
      writeFileSync(join(sharded, 'model.safetensors.index.json'), index)
      return sharded
    }
    using model = await load(await write(parts))
    using whole = await load(tiny)
    expect(await logitsOf(model)).toEqual(await logitsOf(whole))
    await errorOf('ERR_STATE_DICT', async () => load(await write([parts[0]!])))
    const twice = [parts[0]!, [...parts[1]!, names[0]!]]
    await errorOf('ERR_FILE_FORMAT', async () => load(await write(twice)))
    const outside = newFolder()
    copyFileSync(join(folder, 'config.json'), join(outside, 'config.json'))
    const index = { weight_map: { x: '../model.safetensors' } }
    writeFileSync(join(outside, 'model.safetensors.index.json'), JSON.stringify(index))
    await errorOf('ERR_FILE_FORMAT', () => load(outside))
  })

  test.each<[string, Record<string, unknown>]>([
    ['model_type', { model_type: 'mistral' }],
    ['rope_scaling', { rope_scaling: { type: 'linear', factor: 2 } }],
    ['rope_parameters.rope_type', { rope_parameters: { rope_type: 'llama3', rope_theta: 1e4 } }],
    ['attention_bias', { attention_bias: true }],
    ['mlp_bias', { mlp_bias: true }],
    ['hidden_act', { hidden_act: 'gelu' }],
    ['sliding_window', { sliding_window: 8 }],
    ['quantization_config', { quantization_config: { bits: 4 } }],
  ])('%s that would be computed wrongly is refused by name', async (name, changes) => {
    expect(await errorOf('ERR_UNSUPPORTED', () => load(withConfig(changes)))).toContain(`"${name}"`)
  })

  test('biases, missing and unknown tensors are refused by name, and nothing is left', async () => {
    const state = await loadSafetensors(join(tiny, 'model.safetensors'), { device })
    using extra = device.zeros([32])
    const before = await settledMemory(device)
    const withState = async (changed: StateDict) => {
      const folder = withConfig({})
      await saveSafetensors(join(folder, 'model.safetensors'), changed)
      return load(folder)
    }
    const bias = 'model.layers.0.self_attn.q_proj.bias'
    const refused = () => withState({ ...state, [bias]: extra })
    expect(await errorOf('ERR_UNSUPPORTED', refused)).toContain(bias)
    const unknown = () => withState({ ...state, other: extra })
    expect(await errorOf('ERR_STATE_DICT', unknown)).toContain('other')
    const { 'model.norm.weight': norm, ...missing } = state
    expect(await errorOf('ERR_STATE_DICT', () => withState(missing))).toContain('model.norm.weight')
    const wrong = { ...missing, 'model.norm.weight': device.zeros([31]) }
    await errorOf('ERR_STATE_DICT', () => withState(wrong))
    wrong['model.norm.weight'].dispose()
    await device.synchronize()
    expect(device.memory().allocated).toBe(before)
    expect(norm!.size).toBe(32)
  })

  test('older buffers, a head beside tied rows, and defaults of config.json', async () => {
    const state = await loadSafetensors(join(tied, 'model.safetensors'), { device })
    const { head_dim: _, num_key_value_heads: __, mlp_bias: ___, ...config } = configOf(tied)
    const folder = newFolder()
    writeFileSync(
      join(folder, 'config.json'),
      JSON.stringify({ ...config, rope_scaling: null, head_dim: 8, attention_bias: null }),
    )
    const inverse = device.zeros([4])
    await saveSafetensors(join(folder, 'model.safetensors'), {
      ...state,
      'lm_head.weight': state['model.embed_tokens.weight']!,
      'model.layers.0.self_attn.rotary_emb.inv_freq': inverse,
    })
    using model = await load(folder)
    using whole = await load(tied)
    expect(await logitsOf(model)).toEqual(await logitsOf(whole))
  })

  test.each<[string, Record<string, unknown>]>([
    ['in rope_parameters', { rope_theta: undefined, rope_parameters: { rope_theta: 5e5 } }],
    ['beside rope_parameters', { rope_parameters: { rope_type: 'default' } }],
    ['with a scaling that is none', { rope_scaling: { type: 'default' } }],
  ])('theta of rope %s; saving keeps where it stands', async (_, changes) => {
    const folder = withConfig(changes, tied)
    using other = await load(folder)
    using whole = await load(tied)
    expect(await logitsOf(other)).toEqual(await logitsOf(whole))
    const saved = newFolder()
    await other.save(saved)
    expect(configOf(saved)).toMatchObject(configOf(folder))
  })

  test('files that are no files, or no JSON', async () => {
    await errorOf('ERR_FILE_FORMAT', () => load(join(root, 'nowhere')))
    const folder = newFolder()
    writeFileSync(join(folder, 'config.json'), '{')
    await errorOf('ERR_FILE_FORMAT', () => load(folder))
    writeFileSync(join(folder, 'config.json'), '[]')
    await errorOf('ERR_FILE_FORMAT', () => load(folder))
    writeFileSync(join(folder, 'config.json'), JSON.stringify(configOf(tiny)))
    await errorOf('ERR_FILE_FORMAT', () => load(folder))
    const noWidth = withConfig({ hidden_size: undefined })
    expect(await errorOf('ERR_FILE_FORMAT', () => load(noWidth))).toContain('hidden_size')
    await errorOf('ERR_VALUE', () => load(''))
    await errorOf('ERR_OPTION', () => Transformer.load(tiny, { devise: device } as never))
  })

  const memory = { layers: [1], nKeys: 4, heads: 2, knn: 3, keyDim: 4 }

  test('memory layers replace feed-forwards of a trained model, or stand beside them', async () => {
    using plain = await load(tiny)
    using model = await Transformer.load(tiny, { device, memory })
    const names = Object.keys(model.stateDict())
    expect(names).toContain('model.layers.1.memory.values.weight')
    expect(names).toContain('model.layers.0.mlp.up_proj.weight')
    expect(names).not.toContain('model.layers.1.mlp.up_proj.weight')
    using beside = await Transformer.load(tiny, { device, memory: { ...memory, beside: true } })
    expect(Object.keys(beside.stateDict())).toContain('model.layers.1.mlp.up_proj.weight')
    for (const [name, tensor] of Object.entries(plain.stateDict()))
      expect(await beside.stateDict()[name]!.data()).toEqual(await tensor.data())
    beside.stateDict()['model.layers.1.memory.value_proj.weight']!.write(new Float32Array(32 * 32))
    beside.stateDict()['model.layers.1.memory.value_proj.bias']!.write(new Float32Array(32))
    expect(await logitsOf(beside)).toEqual(await logitsOf(plain))
  })

  test.each<[string, Partial<TransformerOptions>]>([
    ['a shared memory', { memory: { ...memory, layers: [0, 2], dtype: 'bfloat16' } }],
    ['memory beside', { memory: { ...memory, beside: true, shared: false }, rope: false }],
    [
      'a kind for each layer',
      {
        memory: { ...memory, valueDim: 4 },
        feedForward: (layer) =>
          [
            { kind: 'gelu', hiddenDim: 5 } as const,
            undefined,
            { kind: 'memory', nKeys: 3, heads: 1, knn: 2, keyDim: 2 } as const,
          ][layer],
      },
    ],
    [
      'memory beside a feed-forward and alone',
      {
        memory: { ...memory, layers: [0, 2], beside: true },
        feedForward: (layer) =>
          layer === 0 ? { kind: 'none' } : { kind: 'swiglu', hiddenDim: 6 + layer },
      },
    ],
    ['experts, tied', { feedForward: { kind: 'moe', experts: 2 }, tieEmbeddings: true }],
    ['peer', { feedForward: { kind: 'peer', nKeys: 3, heads: 1, knn: 2, keyDim: 2 }, headDim: 6 }],
  ])('a model with %s comes back from its folder', async (_, options) => {
    const sizes = { vocabSize: 7, dim: 8, layers: 3, heads: 2, contextLength: 6 }
    using model = new Transformer(device, { ...sizes, ...options } as TransformerOptions)
    const folder = newFolder()
    await model.save(folder)
    using again = await load(folder)
    expect(again.config.blocks).toEqual(model.config.blocks)
    expect(await bitsOf(again.stateDict())).toEqual(await bitsOf(model.stateDict()))
    expect(await logitsOf(again)).toEqual(await logitsOf(model))
    if (!options.memory) return
    expect(configOf(folder)['memory_layers']).toMatchObject({ layers: options.memory.layers })
    await errorOf('ERR_OPTION', () => Transformer.load(folder, { device, memory }))
  })
})

describe('files that can not be read or replaced', () => {
  const device = openDevice('cpu')
  const memory = () => device.memory().allocated

  test('text in what is no regular file is refused, and nothing waits for it', async () => {
    for (const name of ['config.json', 'model.safetensors.index.json', 'model.safetensors'])
      for (const odd of ['FIFO', '/dev/zero', 'loop']) {
        const folder = withConfig({})
        const path = join(folder, name)
        if (name.startsWith('model')) rmSync(join(folder, 'model.safetensors'))
        rmSync(path, { force: true })
        if (odd === 'FIFO') execFileSync('mkfifo', [path])
        else symlinkSync(odd === 'loop' ? name : odd, path)
        const code = odd === 'loop' ? 'ERR_FILE_FORMAT' : 'ERR_VALUE'
        await errorOf(code, () => Transformer.load(folder, { device }))
        await errorOf(code, () => TextDataset.load(path, { device, contextLength: 2 }))
      }
  })

  test('a tensor that is in two files leaves nothing of either', async () => {
    const folder = withConfig({})
    const [a, b] = ['a.safetensors', 'b.safetensors']
    renameSync(join(folder, 'model.safetensors'), join(folder, a))
    copyFileSync(join(folder, a), join(folder, b))
    const index = JSON.stringify({ weight_map: { a, b } })
    writeFileSync(join(folder, 'model.safetensors.index.json'), index)
    const before = memory()
    await errorOf('ERR_FILE_FORMAT', () => Transformer.load(folder, { device }))
    expect(memory()).toBe(before)
  })

  test('weights stay with their config.json, and the last of two saves wins', async () => {
    const folder = withConfig({})
    const model = await Transformer.load(folder, { device })
    const weights = readFileSync(join(folder, 'model.safetensors'))
    model.lmHead.weight.write(new Float32Array(model.lmHead.weight.size))
    rmSync(join(folder, 'config.json'))
    mkdirSync(join(folder, 'config.json'))
    await errorOf('ERR_VALUE', () => model.save(folder))
    expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(weights)
    const two = newFolder()
    const sizes = { layers: 1, heads: 1, contextLength: 2, feedForward: { kind: 'none' } } as const
    const [large, small] = [20_000, 5].map(
      (vocabSize) => new Transformer(device, { vocabSize, dim: 8, ...sizes }),
    )
    await Promise.all([large!.save(two), small!.save(two)])
    expect((await Transformer.load(two, { device })).config.vocabSize).toBe(5)
    await Promise.all([small!.save(two), large!.save(two)])
    expect((await Transformer.load(two, { device })).config.vocabSize).toBe(20_000)
  })
})
