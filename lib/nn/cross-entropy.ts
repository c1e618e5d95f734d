import { disposeOnError } from '../atomically.js'
import { checkDevice, type Device } from '../device.js'
import { inspect } from '../inspect.js'
import * as ops from '../ops.js'
import { type Tensor, tensorHandle } from '../tensor.js'
import { Saved } from './explicit-module.js'

/** @internal */
export type CrossEntropySaved = { logits: Tensor; targets: Tensor; scale: Tensor }

/** Mean cross-entropy over tokens: the loss at the end of a classifier or language model. */
export class CrossEntropy {
  readonly #device: Device

  /** @throws ERR_DEVICE */
  constructor(device: Device) {
    checkDevice('CrossEntropy', device)
    this.#device = device
  }

  /**
   * @param logits `[tokens, classes]` float32
   * @param targets `[tokens]` int32; -1 is padding: its loss is 0, and it counts in the mean
   * @returns loss `[1]`, the mean over tokens
   * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait
   */
  forward(
    logits: Tensor,
    targets: Tensor,
  ): {
    loss: Tensor<'float32'>
    context: Saved<CrossEntropySaved>
  } {
    return disposeOnError(() => {
      const where = 'CrossEntropy.forward'
      tensorHandle(where, 'logits', logits, this.#device)
      tensorHandle(where, 'targets', targets, this.#device)
      const tokens = targets.size
      const losses = ops.crossEntropy(logits, targets)
      const scale = this.#device.tensor(new Float32Array(tokens).fill(1 / tokens), [1, tokens])
      const row = losses.reshape([1, tokens])
      const mean = ops.linear(row, scale)
      const loss = mean.reshape([1])
      for (const t of [losses, row, mean]) t.dispose()
      // Views: the caller may dispose the tensors before the backward.
      const saved = {
        logits: logits.reshape(logits.shape),
        targets: targets.reshape(targets.shape),
        scale,
      }
      const reads = { logits: saved.logits, targets: saved.targets }
      return { loss, context: new Saved(this, saved, reads) }
    })
  }

  /** The gradient of the mean loss with respect to the logits. @throws ERR_CONTEXT */
  backward(context: Saved<CrossEntropySaved>): Tensor<'float32'> {
    const where = 'CrossEntropy.backward'
    return Saved.spend(where, context, this, this.#device, ({ logits, targets, scale }) => {
      const dLosses = scale.reshape([scale.size])
      const dLogits = ops.crossEntropyBackward(dLosses, logits, targets)
      dLosses.dispose()
      return dLogits
    })
  }

  /** @internal */
  [inspect](): string {
    return `CrossEntropy on ${this.#device.name}`
  }
}
