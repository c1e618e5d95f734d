import { native } from '../binding.js'
import { checkInteger, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type Outputs, outputHandles, resultTensor } from './call.js'

/** Options of {@link targetWeights}. */
export interface TargetWeightsOptions {
  /** Targets that don't count, beside -1: an int32. Default -100. */
  ignoreIndex?: number
}

/** @internal The target that is ignored unless the caller says another. */
export const defaultIgnoreIndex = -100

/** @internal */
export function checkIgnoreIndex(where: string, value: unknown): number {
  return checkInteger(where, 'ignoreIndex', value ?? defaultIgnoreIndex, -(2 ** 31), 2 ** 31 - 1)
}

/**
 * What each target counts in a mean of {@link crossEntropy}: `1 / c` for the c targets that are
 * neither -1 nor `ignoreIndex`, 0 for the rest.
 * @param targets `[T]` int32
 * @returns kept `[T]` int32, the targets with -1 for those that are ignored (`out.kept` may be
 * targets), and weights `[T]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE; at the next wait ERR_VALUE if all targets
 * are ignored
 */
export function targetWeights(
  targets: Tensor,
  options?: TargetWeightsOptions & Outputs<'kept' | 'weights'>,
): { kept: Tensor<'int32'>; weights: Tensor<'float32'> } {
  const where = 'targetWeights'
  const checked = checkOptions(where, options, ['ignoreIndex', 'out'])
  const ignoreIndex = checkIgnoreIndex(where, checked.ignoreIndex)
  const { handles, device } = checkTensors(where, { targets })
  const { out } = checked
  const outputs = outputHandles(where, out, device, ['kept', 'weights'])
  const results = native.targetWeights(outputs.kept, outputs.weights, handles.targets, ignoreIndex)
  return {
    kept: resultTensor(device, results.kept, out?.kept) as Tensor as Tensor<'int32'>,
    weights: resultTensor(device, results.weights, out?.weights),
  }
}
