// The head of a decoder and its mean cross-entropy in one: logits are made for some tokens at a
// time and forgotten.

import { recorded } from '../autograd/record.js'
import { isRecording } from '../autograd/recording.js'
import type { Compute } from '../compute.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'

const pieceNumbers = 2 ** 22 // logits of a piece
const minRows = 32
const maxRows = 512

/** Rows of a piece: at most a quarter of the tokens, where that is enough for a product. */
function pieceRows(tokens: number, classes: number): number {
  const fitting = Math.min(maxRows, Math.floor(pieceNumbers / classes), Math.ceil(tokens / 4))
  return Math.min(tokens, Math.max(minRows, fitting))
}

/** Of the loss, for each pass of gradients. */
interface Gradients {
  x: Tensor
  weight: Tensor
}

/**
 * The sum over tokens of `weights[t] * crossEntropy(x[t] W^T, kept[t])`. Gradients are computed
 * with the logits, before a backward asks for them, so that no product is made twice.
 * @param x `[N, dim]`
 * @param weight `[classes, dim]`
 * @param kept `[N]` int32, -1 for those that don't count
 * @param weights `[N]`
 * @param compute of the head's products
 * @returns `[1]`
 */
export function headLoss(
  x: Tensor,
  weight: Tensor,
  kept: Tensor,
  weights: Tensor,
  compute: Compute,
): Tensor {
  const needed = isRecording() && (x.requiresGrad || weight.requiresGrad)
  const device = x.device
  const gradients: Gradients | undefined = needed
    ? { x: device.empty(x.shape), weight: device.zeros(weight.shape) }
    : undefined
  return recorded(
    'Transformer.loss',
    { x, weight },
    undefined,
    () => lossOf(x, weight, kept, weights, compute, gradients),
    () => ({
      saved: { dx: gradients?.x, dWeight: gradients?.weight },
      backward: (dy) => ({
        x: ops.mul(gradients!.x, dy),
        weight: ops.mul(gradients!.weight, dy),
      }),
    }),
  )
}

function lossOf(
  x: Tensor,
  weight: Tensor,
  kept: Tensor,
  weights: Tensor,
  compute: Compute,
  gradients: Gradients | undefined,
): Tensor {
  const [tokens = 0] = x.shape
  const [classes = 0] = weight.shape
  const { device } = x
  const rows = pieceRows(tokens, classes)
  const logits = device.empty([rows, classes])
  const losses = device.empty([tokens])
  for (let begin = 0; begin < tokens; begin += rows) {
    const end = Math.min(begin + rows, tokens)
    const part = (tensor: Tensor) => tensor.rows(begin, end)
    const scores = logits.rows(0, end - begin)
    ops.linear(part(x), weight, undefined, { compute, out: scores })
    ops.crossEntropy(scores, part(kept), { out: part(losses) })
    if (!gradients) continue
    ops.crossEntropyBackward(part(weights), scores, part(kept), { out: scores })
    ops.linearBackward(scores, part(x), weight, {
      needs: { x: true, weight: true, bias: false },
      into: { weight: gradients.weight },
      compute,
      out: { dx: part(gradients.x) },
    })
  }
  const total = ops.linear(losses.reshape([1, tokens]), weights.reshape([1, tokens]))
  return total.reshape([1])
}
