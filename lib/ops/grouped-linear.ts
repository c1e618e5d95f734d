import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { type Compute, computeCode } from '../compute.js'
import { checkOptions } from '../options.js'
import { optionalTensorHandle, type Tensor } from '../tensor.js'
import {
  checkTensors,
  neededGradients,
  type OutOptions,
  type Outputs,
  outputHandles,
  resultTensor,
  resultTensors,
} from './call.js'

/** Options of {@link groupedLinear}. */
export interface GroupedLinearOptions extends OutOptions {
  /** Of the products. Default 'float32'. */
  compute?: Compute
}

/**
 * Linear maps of groups of rows, each by a weight of its own, as of the experts of a mixture:
 * `y[r] = weights[g] x[r] + bias[g]` for the rows `offsets[g]` … `offsets[g + 1] - 1` of group g.
 * How many rows a group has only the device need know. With `compute` 'bfloat16' x and the weights
 * are rounded first, here and in the gradients.
 * @param x `[R, in]` float32, float16 or bfloat16
 * @param weights `[groups, out, in]`, of the dtype of x
 * @param offsets `[groups + 1]` int32, ascending from 0 to R
 * @param bias `[groups, out]` float32
 * @returns `[R, out]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_UNSUPPORTED; ERR_VALUE, for offsets at the next wait
 */
export function groupedLinear(
  x: Tensor,
  weights: Tensor,
  offsets: Tensor,
  bias?: Tensor,
  options?: GroupedLinearOptions,
): Tensor<'float32'> {
  const where = 'groupedLinear'
  const checked = checkOptions(where, options, ['compute', 'out'])
  const { compute } = checked
  const forward = () => {
    const tensors = { x, weights, offsets }
    const { handles, device, out } = checkTensors(where, tensors, checked.out)
    const biasHandle = optionalTensorHandle(where, 'bias', bias, device)
    const { x: rows, weights: maps } = handles
    const code = computeCode(where, device, compute)
    return resultTensor(
      device,
      native.groupedLinear(out, rows, maps, handles.offsets, biasHandle, code),
      checked.out,
    )
  }
  return recorded(where, { x, weights, bias }, checked.out, forward, () => ({
    saved: { x, weights, offsets },
    backward: (dy, needs, into) => {
      const gradients = groupedLinearBackward(dy, x, weights, offsets, {
        needs,
        into: { weights: into.weights, bias: into.bias },
        compute,
      })
      return { x: gradients.dx, weights: gradients.dWeights, bias: gradients.dBias }
    },
  }))
}

/** Options of {@link groupedLinearBackward}. */
export interface GroupedLinearBackwardOptions extends Outputs<'dx'> {
  /** Which gradients to compute; default all three. */
  needs?: { x?: boolean; weights?: boolean; bias?: boolean }
  /** Tensors the parameters' gradients are added to, instead of new ones. */
  into?: { weights?: Tensor; bias?: Tensor }
  /** Of the products, as in the forward. Default 'float32'. */
  compute?: Compute
}

/**
 * Gradients of {@link groupedLinear}: `dx[r] = weights[g]^T dy[r]`, and for each group the sums
 * over its rows, `dWeights[g]` of `dy[r] x[r]^T` and `dBias[g]` of `dy[r]`.
 * @param dy `[R, out]` float32
 * @returns dx `[R, in]`, dWeights `[groups, out, in]`, dBias `[groups, out]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_UNSUPPORTED; ERR_VALUE, for offsets at the next wait
 */
export function groupedLinearBackward(
  dy: Tensor,
  x: Tensor,
  weights: Tensor,
  offsets: Tensor,
  options?: GroupedLinearBackwardOptions & { needs?: { x?: true; weights?: true; bias?: true } },
): { dx: Tensor<'float32'>; dWeights: Tensor<'float32'>; dBias: Tensor<'float32'> }
export function groupedLinearBackward(
  dy: Tensor,
  x: Tensor,
  weights: Tensor,
  offsets: Tensor,
  options: GroupedLinearBackwardOptions,
): { dx?: Tensor<'float32'>; dWeights?: Tensor<'float32'>; dBias?: Tensor<'float32'> }
export function groupedLinearBackward(
  dy: Tensor,
  x: Tensor,
  weights: Tensor,
  offsets: Tensor,
  options?: GroupedLinearBackwardOptions,
): { dx?: Tensor<'float32'>; dWeights?: Tensor<'float32'>; dBias?: Tensor<'float32'> } {
  const where = 'groupedLinearBackward'
  const { out, ...rest } = checkOptions(where, options, ['needs', 'into', 'compute', 'out'])
  const { handles, device } = checkTensors(where, { dy, x, weights, offsets })
  const { dx: outX } = outputHandles(where, out, device, ['dx'])
  const { args, intoWeight, intoBias } = neededGradients(where, rest, device, 'weights')
  const gradients = native.groupedLinearBackward(
    outX,
    handles.dy,
    handles.x,
    handles.weights,
    handles.offsets,
    ...args,
    computeCode(where, device, rest.compute),
  )
  return resultTensors(device, gradients, { dx: out?.dx, dWeights: intoWeight, dBias: intoBias })
}
