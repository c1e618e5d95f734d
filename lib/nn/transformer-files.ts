// Transformers in folders as Hugging Face lays them out.

import { basename, join } from 'node:path'
import type { Compute } from '../compute.js'
import { checkDevice, type Device } from '../device.js'
import type { DType } from '../dtype.js'
import { fail } from '../errors.js'
import { isPresent, readText } from '../files/read.js'
import { replaceFile } from '../files/replace.js'
import { checkPath, fileError, system } from '../files/system.js'
import { openDevice } from '../open-device.js'
import { checkOptions } from '../options.js'
import { loadSafetensors, saveAround } from '../safetensors.js'
import { shardOf } from '../sharding/shard-of.js'
import type { StateDict } from '../state-dict.js'
import type { Tensor } from '../tensor.js'
import type { MemoryPlacement } from './block-config.js'
import { type ConfigJson, configOfModel, optionsOfConfig, parseConfig } from './llama-config.js'
import type { Transformer } from './transformer.js'
import { checkTransformerOptions, type TransformerOptions } from './transformer-config.js'

/** Options of {@link Transformer.load}. */
export interface LoadTransformerOptions {
  /** Where the model goes. Default: `openDevice()`. */
  device?: Device
  /** Fresh memory layers in place of the feed-forwards of some layers, or beside them. */
  memory?: MemoryPlacement
  /** Of matrix products, as of a new model. Default 'float32'. */
  compute?: Compute
}

const weightsFile = 'model.safetensors'
const indexFile = `${weightsFile}.index.json`
const configFile = 'config.json'

/** The tensors of files by name. */
type Weights = Map<string, Tensor>

/** What the files of a loaded model said, which saving keeps. */
interface Origin {
  json: ConfigJson
  dtypes: ReadonlyMap<string, DType>
}

const origins = new WeakMap<Transformer, Origin>()

/** The files of the weights: one, or those that an index names. */
async function weightFiles(where: string, folder: string): Promise<string[]> {
  const single = join(folder, weightsFile)
  if (await isPresent({ where, path: single })) return [single]
  const path = join(folder, indexFile)
  if (!(await isPresent({ where, path }))) {
    const requirement = `hold ${weightsFile} or ${indexFile}`
    fail('ERR_FILE_FORMAT', where, 'folder', requirement, `neither in "${folder}"`)
  }
  const { weight_map: map } = parseConfig(where, path, await readText(where, path))
  if (typeof map !== 'object' || map === null)
    fail('ERR_FILE_FORMAT', where, 'weight_map', `be an object in ${indexFile}`, map)
  const files = new Set(Object.values(map))
  return Array.from(files, (file: unknown) => {
    if (typeof file !== 'string' || file === '' || basename(file) !== file || file.startsWith('.'))
      fail('ERR_FILE_FORMAT', where, 'weight_map', 'name files of its folder', file)
    return join(folder, file)
  })
}

/** The tensors of all files. @throws ERR_FILE_FORMAT for one that is there twice */
async function readWeights(where: string, folder: string, device: Device): Promise<Weights> {
  const state: Weights = new Map()
  try {
    for (const path of await weightFiles(where, folder)) {
      const tensors = await loadSafetensors(path, { device })
      for (const [name, tensor] of Object.entries(tensors)) {
        if (state.has(name)) {
          for (const t of Object.values(tensors)) t.dispose()
          fail('ERR_FILE_FORMAT', where, name, 'be in one file', 'it in several')
        }
        state.set(name, tensor)
      }
    }
    return state
  } catch (error) {
    disposeAll(state)
    throw error
  }
}

function disposeAll(state: Weights): void {
  for (const tensor of state.values()) tensor.dispose()
}

/** {@link Transformer.load}. */
export async function loadTransformer(
  folder: string,
  options: LoadTransformerOptions | undefined,
  create: (device: Device, options: TransformerOptions) => Transformer,
): Promise<Transformer> {
  const where = 'Transformer.load'
  checkPath(where, folder)
  const checked = checkOptions(where, options, ['device', 'memory', 'compute'])
  const { memory, compute } = checked
  if (checked.device !== undefined) checkDevice(where, checked.device)
  const device = checked.device ?? openDevice()
  const path = join(folder, configFile)
  const json = parseConfig(where, path, await readText(where, path))
  if (memory !== undefined && (json['memory_layers'] ?? undefined) !== undefined) {
    const hint = 'Leave it out: the memory layers of the files are loaded.'
    fail('ERR_OPTION', where, 'memory', 'be left out for a model that has memory', memory, hint)
  }
  const transformer = {
    ...optionsOfConfig(where, json),
    ...(memory !== undefined && { memory }),
    ...(compute !== undefined && { compute }),
  }
  checkTransformerOptions(where, transformer) // before the weights are read
  const state = await readWeights(where, folder, device)
  try {
    const model = create(device, transformer)
    try {
      const dtypes = new Map(Array.from(state, ([name, { dtype }]) => [name, dtype]))
      model.loadStateDict(fittingState(where, model, state, memory !== undefined))
      await device.synchronize()
      origins.set(model, { json, dtypes })
      return model
    } catch (error) {
      model.dispose()
      throw error
    }
  } finally {
    disposeAll(state)
  }
}

/**
 * What of the files is for the model. Buffers that older files hold, the head of a tied model, and
 * the feed-forwards that fresh memory layers stand in place of are left out.
 */
function fittingState(
  where: string,
  model: Transformer,
  state: Weights,
  retrofitted: boolean,
): StateDict {
  const own = new Map(Object.entries(model.stateDict()))
  for (const name of state.keys())
    if (!own.has(name) && !isLeftOut(model, name, retrofitted)) failUnknown(where, name)
  const fitting = Array.from(own, ([name, tensor]) => {
    const fresh = retrofitted && isFresh(model, name) ? tensor : undefined
    return [name, state.get(name) ?? fresh] as const
  })
  return Object.fromEntries(fitting.filter((entry): entry is [string, Tensor] => !!entry[1]))
}

function isLeftOut({ config }: Transformer, name: string, retrofitted: boolean): boolean {
  if (name.endsWith('.rotary_emb.inv_freq')) return true
  if (name === 'lm_head.weight') return config.tieEmbeddings
  const layer = /^model\.layers\.(\d+)\.mlp\./.exec(name)?.[1]
  const block = config.blocks[Number(layer)]
  return retrofitted && block?.memory !== undefined && block.feedForward.kind === 'none'
}

function isFresh({ config }: Transformer, name: string): boolean {
  const layer = /^model\.layers\.(\d+)\.memory\./.exec(name)?.[1]
  return config.blocks[Number(layer)]?.memory !== undefined
}

function failUnknown(where: string, name: string): never {
  if (!name.endsWith('.bias'))
    fail('ERR_STATE_DICT', where, name, 'not be in the files', 'it, which the model does not have')
  const hint = 'Its projections have no biases.'
  fail('ERR_UNSUPPORTED', where, name, 'not be in the files', 'a bias', hint)
}

function checkWhole(where: string, model: Transformer): void {
  const divided = Object.entries(model.stateDict()).find(([, tensor]) => shardOf(tensor))
  if (!divided) return
  const hint = 'Save it with saveCheckpoint and its world, and load that into a whole model.'
  fail('ERR_UNSUPPORTED', where, divided[0], 'be whole', 'columns of one rank', hint)
}

/** {@link Transformer.save}. */
export async function saveTransformer(folder: string, model: Transformer): Promise<void> {
  const where = 'Transformer.save'
  checkPath(where, folder)
  checkWhole(where, model)
  const origin = origins.get(model)
  const made: Tensor[] = []
  const asInFiles = (name: string, tensor: Tensor): Tensor => {
    const dtype = origin?.dtypes.get(name) ?? tensor.dtype
    if (dtype === tensor.dtype) return tensor
    const rounded = tensor.to(dtype)
    made.push(rounded)
    return rounded
  }
  try {
    const state = Object.entries(model.stateDict()).map(
      ([name, tensor]) => [name, asInFiles(name, tensor)] as const,
    )
    const dtype = state[0]![1].dtype
    const json = configOfModel(model.config, dtype, origin?.json)
    const file = { where, path: join(folder, configFile) }
    try {
      system.mkdirSync(folder)
    } catch (error) {
      throw fileError({ where, path: folder }, 'made', error)
    }
    const metadata = { format: 'pt' }
    const text = Buffer.from(`${JSON.stringify(json, null, 2)}\n`)
    // All that can fail comes before the weights are replaced, and saves take turns for both files.
    const around = (saveWeights: () => Promise<void>) =>
      replaceFile(file, async (append) => {
        await append(text)
        await saveWeights()
      })
    const tensors = Object.fromEntries(state)
    await saveAround(join(folder, weightsFile), tensors, { metadata }, around)
  } finally {
    for (const tensor of made) tensor.dispose()
  }
}
