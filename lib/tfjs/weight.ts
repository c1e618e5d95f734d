// A parameter of a layer as a weight of a TensorFlow.js layer: counted, saved and loaded.

import { fail } from '../errors.js'
import type { TableLayer } from '../layer.js'
import { formatShape, type Tensor } from '../tensor.js'
import type { TensorFlow, TfTensor, TfVariable } from './types.js'

/**
 * Stands where TensorFlow.js has a LayerVariable. The values stay on the layer's device: `read`
 * copies them into a variable that is made at the first call, `write` copies them back.
 */
export class ParameterWeight {
  readonly name: string
  readonly originalName: string
  readonly shape: number[]
  readonly dtype: 'float32' | 'int32'
  readonly id: number
  /** The optimizer of TensorFlow.js does not update it. */
  trainable = false
  readonly #tf: TensorFlow
  readonly #tensor: Tensor
  #copy: TfVariable | undefined

  constructor(tf: TensorFlow, name: string, id: number, tensor: Tensor) {
    this.#tf = tf
    this.#tensor = tensor
    this.name = name
    this.originalName = name
    this.id = id
    this.shape = [...tensor.shape]
    this.dtype = tensor.dtype === 'int8' ? 'int32' : 'float32'
  }

  /** The values of this moment: 16-bit floats as float32, int8 as int32, both exact. */
  read(): TfVariable {
    const data = this.#tensor.dataSync()
    const values = this.dtype === 'int32' ? Int32Array.from(data) : (data as Float32Array)
    const now = this.#tf.tensor(values, this.shape, this.dtype)
    if (this.#copy && !this.#copy.isDisposed) this.#copy.assign(now)
    else this.#copy = this.#tf.variable(now, false)
    now.dispose()
    return this.#copy
  }

  /** @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE */
  write(value: TfTensor): this {
    const [wanted, found] = [formatShape(this.shape), formatShape(value.shape)]
    if (found !== wanted) fail('ERR_SHAPE', this.name, 'value', `have shape ${wanted}`, found)
    if (value.dtype !== this.dtype)
      fail('ERR_DTYPE', this.name, 'value', `be ${this.dtype}`, value.dtype)
    this.#tensor.write(value.dataSync() as Float32Array | Int32Array)
    return this
  }

  /** Frees the copy; the parameter is the layer's. */
  dispose(): void {
    if (this.#copy && !this.#copy.isDisposed) this.#copy.dispose()
    this.#copy = undefined
  }
}

/**
 * The layer's parameters in their order, an int8 table with its scales. Rows in a file stay there.
 */
export function parameterWeights(
  tf: TensorFlow,
  layer: TableLayer,
  prefix: string,
): ParameterWeight[] {
  const tensors = layer.parameters().flatMap((p): [string, Tensor][] => {
    if (p.kind === 'dense') return [[p.name, p.value]]
    if (p.table.mapped) return []
    const { weight, scales } = p.table
    const rows: [string, Tensor] = [p.name, weight]
    return scales ? [rows, [p.name.replace(/weight$/, 'scales'), scales]] : [rows]
  })
  return tensors.map(
    ([name, tensor], i) => new ParameterWeight(tf, `${prefix}/${name}`, -1 - i, tensor),
  )
}
