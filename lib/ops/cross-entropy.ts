import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/**
 * Cross-entropy of each token: `logsumexp(logits[t, :]) - logits[t, targets[t]]`. A target of -1 is
 * padding: its loss is 0.
 * @param logits `[T, C]` float32
 * @param targets `[T]` int32
 * @returns `[T]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE at the next wait
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  options?: OutOptions,
): Tensor<'float32'> {
  const where = 'crossEntropy'
  const checked = checkOptions(where, options, ['out'])
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { logits, targets }, checked.out)
    const losses = native.crossEntropy(out, handles.logits, handles.targets)
    return resultTensor(device, losses, checked.out)
  }
  return recorded(where, { logits }, checked.out, forward, () => ({
    saved: { logits, targets },
    backward: (dLoss) => ({ logits: crossEntropyBackward(dLoss, logits, targets) }),
  }))
}

/**
 * Gradient of {@link crossEntropy}: `dLoss[t] * (softmax(logits[t, :]) - onehot(targets[t]))`.
 * `out` may be logits.
 * @param dLoss `[T]` float32
 * @returns `[T, C]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE at the next wait
 */
export function crossEntropyBackward(
  dLoss: Tensor,
  logits: Tensor,
  targets: Tensor,
  options?: OutOptions,
): Tensor<'float32'> {
  const where = 'crossEntropyBackward'
  const checked = checkOptions(where, options, ['out'])
  const { handles, device, out } = checkTensors(where, { dLoss, logits, targets }, checked.out)
  const dLogits = native.crossEntropyBackward(out, handles.dLoss, handles.logits, handles.targets)
  return resultTensor(device, dLogits, checked.out)
}
