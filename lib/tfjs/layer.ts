// Layers of this package as layers of TensorFlow.js models.

import { checkDevice, type Device } from '../device.js'
import { describeValue, fail } from '../errors.js'
import type { TableLayer } from '../layer.js'
import { checkInteger, checkOptions } from '../options.js'
import { formatShape } from '../tensor.js'
import { Bridge, checkArguments, emptyTensor } from './bridge.js'
import { layerFrom, savedForm } from './saved.js'
import { trainerOf } from './trainer.js'
import type { Stepper, TensorFlow, TfTensor, TfVariable } from './types.js'
import { parameterWeights } from './weight.js'

/** What {@link asLayer} needs of a TensorFlow.js layer. */
export interface TfLayer {
  /** The output of a batch. */
  // biome-ignore lint/suspicious/noExplicitAny: overridden with narrower types
  call(inputs: any, kwargs: any): any
  /** The shape of the output from that of the input; null where it is not known. */
  // biome-ignore lint/suspicious/noExplicitAny: overridden with narrower types
  computeOutputShape(shape: any): any
}

/** What {@link asLayer} adds to a TensorFlow.js layer. */
export interface TfMemoryLayer {
  /** The layer of this package, with its parameters: also in a model that was loaded. */
  readonly memory: TableLayer
  /** Steps after each batch; may be set, after loading a model for instance. */
  optimizer: Stepper | undefined
}

/** Options of {@link asLayer}. */
export interface TfLayerOptions {
  /**
   * Steps with the optimizer of the model: once after each batch, for all layers that were given
   * the same one. Make it from the parameters of all of them. Left out: step yourself.
   */
  optimizer?: Stepper
  /** The layer's name. Default: one by TensorFlow.js. */
  name?: string
  /** Of the input without the batch, for the first layer of a model. Default `[inputDim]`. */
  inputShape?: readonly (number | null)[]
  /**
   * Gradients that may wait for a step; the next is an error, since they take memory. Default 32.
   */
  maxWaiting?: number
}

/** TensorFlow.js with its layers. */
export type TensorFlowLayers<L extends TfLayer = TfLayer> = TensorFlow & {
  /** `tf.layers` */
  layers: {
    /** The class of all layers. */
    Layer: { prototype: L }
  }
  /** `tf.serialization` */
  serialization?: {
    /** Makes a class known to `tf.loadLayersModel`. */
    // biome-ignore lint/suspicious/noExplicitAny: takes a class of the program's TensorFlow.js
    registerClass(layerClass: any): unknown
  }
}

type Shape = readonly (number | null)[]

/** A weight of TensorFlow.js. */
interface LayerVariable {
  read(): TfVariable
  write(value: unknown): unknown
}

/** The parts of `tf.layers.Layer` that its declarations keep from subclasses, or that vary. */
interface BaseLayer extends TfLayer {
  name: string
  batchInputShape: Shape | undefined
  trainable: boolean
  supportsMasking: boolean
  nonTrainableWeights: unknown[]
  apply(inputs: unknown, kwargs?: unknown): unknown
  build(shape: Shape): void
  getConfig(): Record<string, unknown>
  dispose(): { refCountAfterDispose: number; numDisposedVariables: number }
  addWeight(
    name: string,
    shape: number[],
    dtype: string,
    initializer: { apply(): TfTensor },
    regularizer: undefined,
    trainable: boolean,
  ): LayerVariable
}

interface Settings {
  memory: TableLayer
  optimizer?: Stepper | undefined
  maxWaiting?: number | undefined
  /** Whether disposing the layer disposes `memory`: true where it was made for a loaded model. */
  owned?: boolean
}

interface LayerClass {
  new (config: object, settings: Settings): BaseLayer & TfMemoryLayer
  /** Where the parameters of a loaded model are made. */
  device: Device | undefined
}

// One class for each TensorFlow.js, since it extends that one's Layer.
const classes = new WeakMap<object, LayerClass>()

function classOf(tf: TensorFlowLayers, device: Device): LayerClass {
  const layerClass = classes.get(tf.layers.Layer) ?? defineClass(tf)
  layerClass.device = device
  if (!classes.has(tf.layers.Layer)) {
    classes.set(tf.layers.Layer, layerClass)
    tf.serialization?.registerClass(layerClass)
  }
  return layerClass
}

function defineClass(tf: TensorFlowLayers): LayerClass {
  const Base = tf.layers.Layer as unknown as new (config: object) => BaseLayer
  return class MemoryTfLayer extends Base implements TfMemoryLayer {
    static readonly className = 'MemoryLayer'
    static device: Device | undefined
    readonly memory: TableLayer
    optimizer: Stepper | undefined
    readonly #owned: boolean
    readonly #shapeGiven: boolean
    readonly #bridge: Bridge
    #anchor: LayerVariable | undefined

    static fromConfig(layerClass: typeof MemoryTfLayer, config: Record<string, unknown>) {
      const memory = layerFrom(`${config['name']}`, layerClass.device as Device, config)
      return new layerClass(config, { memory, owned: true })
    }

    constructor(config: object, { memory, optimizer, maxWaiting = 32, owned = false }: Settings) {
      super(config)
      this.#shapeGiven = this.batchInputShape !== undefined
      this.batchInputShape ??= [null, memory.inputDim]
      this.memory = memory
      this.optimizer = optimizer
      this.supportsMasking = true // each token by itself
      this.#owned = owned
      const trainer = () => this.optimizer && trainerOf(this.optimizer)
      this.#bridge = new Bridge(`Layer ${this.name}`, tf, memory, maxWaiting, {
        trainable: () => this.trainable,
        begin: (tape) => trainer()?.begin(tape),
        added: () => trainer()?.added(),
        claimed: () => trainer()?.claimed(),
        failed: () => trainer()?.drop(),
      })
    }

    override apply(inputs: unknown, kwargs?: unknown): unknown {
      const input = inputs as { shape?: Shape; sourceLayer?: { name: string } }
      if (input?.sourceLayer) this.#checkShape(input.shape, input.sourceLayer.name)
      // Until here the default serves tf.sequential; from here it would be compared with the input.
      if (!this.#shapeGiven) this.batchInputShape = undefined
      return super.apply(inputs, kwargs)
    }

    override build(shape: Shape): void {
      this.#checkShape(shape)
      const initializer = { apply: () => emptyTensor(tf) }
      const anchor = this.addWeight('anchor', [0], 'float32', initializer, undefined, true)
      anchor.write = () => anchor // no elements
      const variable = anchor.read()
      const assign = variable.assign.bind(variable)
      variable.assign = (value: TfTensor) => {
        if (this.optimizer) trainerOf(this.optimizer).step()
        assign(value)
      }
      this.#anchor = anchor
      this.nonTrainableWeights = parameterWeights(tf, this.memory, this.name)
      super.build(shape)
    }

    override computeOutputShape(shape: Shape): (number | null)[] {
      this.#checkShape(shape)
      return [...shape.slice(0, -1), this.memory.outputDim]
    }

    override call(inputs: TfTensor | TfTensor[]): TfTensor {
      const x = Array.isArray(inputs) ? inputs[0] : inputs
      return this.#bridge.apply(x as TfTensor, (this.#anchor as LayerVariable).read())
    }

    override getConfig(): Record<string, unknown> {
      return { ...super.getConfig(), ...savedForm(`Layer ${this.name}`, this.memory) }
    }

    override dispose(): { refCountAfterDispose: number; numDisposedVariables: number } {
      const result = super.dispose()
      if (this.#owned && result.refCountAfterDispose === 0) this.memory.dispose()
      return result
    }

    #checkShape(shape: Shape | undefined, before?: string): void {
      const { inputDim } = this.memory
      const width = Array.isArray(shape) ? shape.at(-1) : undefined
      const known = width === null || width === inputDim
      if (known && (shape?.length === 2 || shape?.length === 3)) return
      const requirement = `have shape [batch, ${inputDim}] or [batch, time, ${inputDim}]`
      const found = Array.isArray(shape)
        ? formatShape(shape.map((size) => size ?? 'null'))
        : describeValue(shape)
      const source = before ? ` from layer ${before}` : ''
      const hint = `This memory layer was made with inputDim ${inputDim}.`
      fail('ERR_SHAPE', `Layer ${this.name}`, 'input', requirement, found + source, hint)
    }
  }
}

/**
 * The layer for `tf.sequential()` and `tf.model()`: trains with `model.fit`, predicts with
 * `model.predict`, is counted by `model.summary` and saved by `model.save`:
 *
 * ```ts
 * model.add(asLayer(tf, layer, { optimizer: new AdamW(layer.parameters(), { lr: 1e-3 }) }))
 * await model.fit(x, y)
 * ```
 * TensorFlow.js's optimizer does not know the layer's parameters: it lists them as non-trainable,
 * and this package's optimizer updates them, at the moment that the other updates its own. Without
 * an optimizer here, call `optimizer.step()` and `zeroGrad()` in `onBatchEnd`.
 *
 * `layer.trainable = false` freezes it.
 * @throws ERR_VALUE, ERR_OPTION; adding it to a model throws ERR_SHAPE for another input width
 */
export function asLayer<L extends TfLayer>(
  tf: TensorFlowLayers<L>,
  layer: TableLayer,
  options?: TfLayerOptions,
): L & TfMemoryLayer {
  const where = 'asLayer'
  checkArguments(where, tf, layer)
  checkLayers(where, tf)
  const names = ['optimizer', 'name', 'inputShape', 'maxWaiting']
  const checked = checkOptions(where, options, names)
  const { optimizer, name, maxWaiting = 32 } = checked
  if (optimizer !== undefined) checkStepper(where, optimizer)
  checkInteger(where, 'maxWaiting', maxWaiting, 1)
  const { inputShape } = checked
  const MemoryTfLayer = classOf(tf, layer.device)
  const config = { name, inputShape }
  const made = new MemoryTfLayer(config, { memory: layer, optimizer, maxWaiting })
  return made as unknown as L & TfMemoryLayer
}

/**
 * Lets `tf.loadLayersModel` read models that were saved with memory layers: their parameters are
 * made on `device`. `asLayer` does the same with the device of its layer.
 * @throws ERR_VALUE, ERR_DEVICE
 */
export function registerLayers(tf: TensorFlowLayers, device: Device): void {
  const where = 'registerLayers'
  checkLayers(where, tf)
  checkDevice(where, device)
  if (typeof tf.serialization?.registerClass !== 'function')
    fail('ERR_VALUE', where, 'tf', 'have serialization.registerClass', tf)
  classOf(tf, device)
}

function checkLayers(where: string, tf: TensorFlowLayers): void {
  if (typeof tf?.layers?.Layer === 'function') return
  const hint = "Pass the namespace: import * as tf from '@tensorflow/tfjs'."
  fail('ERR_VALUE', where, 'tf', 'have layers.Layer', tf, hint)
}

function checkStepper(where: string, optimizer: Stepper): void {
  if (typeof optimizer?.step === 'function' && typeof optimizer.zeroGrad === 'function') return
  const hint = 'Pass one of this package: new AdamW(layer.parameters(), { lr: 1e-3 }).'
  fail('ERR_VALUE', where, 'optimizer', 'have step() and zeroGrad()', optimizer, hint)
}
