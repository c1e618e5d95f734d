import { record } from '../autograd/record.js'
import { isRecording } from '../autograd/recording.js'
import { checkDevice, type Device } from '../device.js'
import { fail } from '../errors.js'
import { inspect } from '../inspect.js'
import { checkIgnoreIndex } from '../ops/target-weights.js'
import * as ops from '../ops.js'
import { checkOptions } from '../options.js'
import { formatShape, type Tensor, tensorHandle } from '../tensor.js'
import { explicitly, Saved } from './explicit-module.js'

/** @internal */
export type CrossEntropySaved = Record<'logits' | 'targets' | 'kept' | 'weights', Tensor>

/** Options of {@link CrossEntropy.forward}. */
export interface CrossEntropyOptions {
  /** Targets that don't count, beside -1. Default -100. */
  ignoreIndex?: number
}

/**
 * Mean cross-entropy over the targets that count: the loss of a classifier or language model.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { CrossEntropy, Linear } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const head = new Linear(device, { inputDim: 64, outputDim: 10 })
 * const logits = head.apply(device.normal([4, 64], { seed: 1 }))
 * const targets = device.tensor(Int32Array.of(3, 9, -1, 0)) // -1: not counted
 * const loss = new CrossEntropy(device).apply(logits, targets)
 * loss.backward()
 * console.log((await loss.data())[0])
 * ```
 */
export class CrossEntropy {
  readonly #device: Device

  /** @throws ERR_DEVICE */
  constructor(device: Device) {
    checkDevice('CrossEntropy', device)
    this.#device = device
  }

  /**
   * @param logits `[tokens, classes]` float32
   * @param targets `[tokens]` int32; -1 and `ignoreIndex` are padding, which does not count
   * @returns loss `[1]`, the mean over the targets that count
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION; at the next wait ERR_INDEX_RANGE, and ERR_VALUE for
   * targets that are all padding
   */
  forward(
    logits: Tensor,
    targets: Tensor,
    options?: CrossEntropyOptions,
  ): {
    loss: Tensor<'float32'>
    context: Saved<CrossEntropySaved>
  } {
    return explicitly(() => {
      const where = 'CrossEntropy.forward'
      tensorHandle(where, 'logits', logits, this.#device)
      tensorHandle(where, 'targets', targets, this.#device)
      const { ignoreIndex } = checkOptions(where, options, ['ignoreIndex'])
      const { kept, weights } = ops.targetWeights(targets, {
        ignoreIndex: checkIgnoreIndex(where, ignoreIndex),
      })
      const losses = ops.crossEntropy(logits, kept)
      const rows = [losses.reshape([1, losses.size]), weights.reshape([1, losses.size])] as const
      const mean = ops.linear(...rows)
      const loss = mean.reshape([1])
      for (const t of [losses, mean, ...rows]) t.dispose()
      // Views: the caller may dispose the tensors before the backward.
      const reads = {
        logits: logits.reshape(logits.shape),
        targets: targets.reshape(targets.shape),
      }
      return { loss, context: new Saved(this, { ...reads, kept, weights }, reads) }
    })
  }

  /**
   * The loss `[1]`, recorded for `loss.backward()` if the logits require a gradient. Arguments and
   * errors as of `forward`.
   */
  apply(logits: Tensor, targets: Tensor, options?: CrossEntropyOptions): Tensor<'float32'> {
    const { loss, context } = this.forward(logits, targets, options)
    if (!isRecording() || !logits.requiresGrad) context.dispose()
    else
      record<'logits', Tensor>('CrossEntropy.apply', { logits }, loss, {
        saved: {},
        backward: (dy) => ({ logits: this.backward(context, dy) }),
        release: () => context.dispose(),
      })
    return loss
  }

  /**
   * The gradient of the mean loss with respect to the logits.
   * @param dLoss gradient of the loss, `[1]` float32; left out: one
   * @throws ERR_CONTEXT, ERR_SHAPE, ERR_DTYPE
   */
  backward(context: Saved<CrossEntropySaved>, dLoss?: Tensor): Tensor<'float32'> {
    const where = 'CrossEntropy.backward'
    return Saved.spend(where, context, this, this.#device, ({ logits, kept, weights }) => {
      const factors = dLoss ? scaleBy(where, weights, dLoss) : weights
      const dLosses = factors.reshape([weights.size])
      const dLogits = ops.crossEntropyBackward(dLosses, logits, kept)
      dLosses.dispose()
      if (dLoss) factors.dispose()
      return dLogits
    })
  }

  /** @internal */
  [inspect](): string {
    return `CrossEntropy on ${this.#device.name}`
  }
}

/** `[tokens]` times `[1]`, as `[tokens, 1]`. */
function scaleBy(where: string, scale: Tensor, dLoss: Tensor): Tensor {
  tensorHandle(where, 'dLoss', dLoss, scale.device)
  if (dLoss.size !== 1)
    fail('ERR_SHAPE', where, 'dLoss', 'have one element', formatShape(dLoss.shape))
  const column = scale.reshape([scale.size, 1])
  const factor = dLoss.reshape([1, 1])
  const scaled = ops.linear(column, factor)
  for (const t of [column, factor]) t.dispose()
  return scaled
}
