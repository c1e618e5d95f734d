import { record } from '../autograd/record.js'
import { isRecording } from '../autograd/recording.js'
import { checkDevice, type Device } from '../device.js'
import { fail } from '../errors.js'
import { inspect } from '../inspect.js'
import * as ops from '../ops.js'
import { formatShape, type Tensor, tensorHandle } from '../tensor.js'
import { explicitly, Saved } from './module.js'

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
    return explicitly(() => {
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

  /**
   * The loss `[1]`, recorded for `loss.backward()` if the logits require a gradient. Arguments and
   * errors as of `forward`.
   */
  apply(logits: Tensor, targets: Tensor): Tensor<'float32'> {
    const { loss, context } = this.forward(logits, targets)
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
    return Saved.spend(where, context, this, this.#device, ({ logits, targets, scale }) => {
      const factors = dLoss ? scaleBy(where, scale, dLoss) : scale
      const dLosses = factors.reshape([scale.size])
      const dLogits = ops.crossEntropyBackward(dLosses, logits, targets)
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

/** `[1, tokens]` times `[1]`, as `[tokens, 1]`. */
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
