import { isObject } from '../describe.js'
import type { Device } from '../device.js'
import { fail, isArray } from '../errors.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'
import type { Child } from './children.js'
import { Module } from './module.js'

/** What can stand in a container: a module, a layer, or a function of a tensor. */
export type Applicable = AppliedModule | ((x: Tensor) => Tensor)

/** A module or a layer. */
export interface AppliedModule {
  /** The output. */
  apply(x: Tensor): Tensor
}

function checkApplicable(where: string, name: string, value: unknown): void {
  const apply: unknown = isObject(value) && 'apply' in value ? value.apply : undefined
  if (typeof value !== 'function' && typeof apply !== 'function')
    fail('ERR_VALUE', where, name, 'be a module, a layer or a function', value)
}

function run(part: Applicable, x: Tensor): Tensor {
  return typeof part === 'function' ? part(x) : part.apply(x)
}

/**
 * Parts that follow each other: `parts[n](… parts[0](x))`. In state dicts they are `0`, `1`, ….
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { FeedForward, Linear, RmsNorm, Sequential } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const model = new Sequential(device, [
 *   new RmsNorm(device, { dim: 64 }),
 *   new FeedForward(device, { dim: 64, hiddenDim: 256 }),
 *   new Linear(device, { inputDim: 64, outputDim: 10 }),
 * ])
 * const logits = model.apply(device.normal([8, 64], { seed: 1 })) // [8, 10]
 * console.log(model.describe())
 * ```
 */
export class Sequential extends Module {
  /** In their order. */
  readonly parts: readonly Applicable[]

  /**
   * @param parts modules, layers (not {@link Embedding}, which stands before), and functions such
   * as `ops.gelu`
   * @throws ERR_DEVICE, ERR_VALUE
   */
  constructor(device: Device, parts: readonly Applicable[]) {
    super(device)
    if (!isArray(parts)) fail('ERR_VALUE', 'Sequential', 'parts', 'be an array', parts)
    for (const [i, part] of parts.entries()) checkApplicable('Sequential', `parts[${i}]`, part)
    this.parts = [...parts]
  }

  override children(): readonly (readonly [string, Child])[] {
    return super.children().map(([name, child]) => [name.replace(/^parts\./, ''), child])
  }

  /** The last part's output. Errors as of the parts. */
  apply(x: Tensor): Tensor {
    return this.parts.reduce((y, part) => run(part, y), x)
  }
}

/**
 * `x + inner(x)`.
 *
 * ```ts
 * import { MemoryLayer, openDevice } from 'memory-layers'
 * import { Residual, RmsNorm, Sequential } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const memory = new MemoryLayer(device, { inputDim: 64, nKeys: 32, knn: 8, keyDim: 64 })
 * const inner = new Sequential(device, [new RmsNorm(device, { dim: 64 }), memory])
 * const block = new Residual(device, inner)
 * const y = block.apply(device.normal([8, 64], { seed: 1 })) // x + memory(norm(x))
 * ```
 */
export class Residual extends Module {
  /** What is added. */
  readonly inner: Applicable

  /** @throws ERR_DEVICE, ERR_VALUE */
  constructor(device: Device, inner: Applicable) {
    super(device)
    checkApplicable('Residual', 'inner', inner)
    this.inner = inner
  }

  /** Errors as of the inner part. */
  apply(x: Tensor): Tensor {
    return ops.add(x, run(this.inner, x))
  }
}
