import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkBoolean, checkFloat32, checkOptions } from '../options.js'
import { type Tensor, tensorHandle } from '../tensor.js'
import { checkTensors, type Outputs, outputHandles, resultTensors } from './call.js'

/** Options of {@link attention} and {@link attentionBackward}. */
export interface AttentionOptions {
  /** Factor of the scores. Default `1 / sqrt(d)`. */
  scale?: number
  /** Each position attends to itself and to earlier ones alone. Default true. */
  causal?: boolean
}

function checkAttentionOptions<Name extends string>(
  where: string,
  options: (AttentionOptions & Outputs<Name>) | undefined,
  q: Tensor,
): { scale: number; causal: boolean; out: Outputs<Name>['out'] } {
  const checked = checkOptions<AttentionOptions & Outputs<Name>>(where, options, [
    'scale',
    'causal',
    'out',
  ])
  tensorHandle(where, 'q', q)
  const scale = checkFloat32(where, 'scale', checked.scale ?? 1 / Math.sqrt(q.shape.at(-1) || 1))
  return { scale, causal: checkBoolean(where, 'causal', checked.causal ?? true), out: checked.out }
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), for each batch and head:
 * `y[t] = sum_u softmax_u(scale * <q[t], k[u]>) v[u]`.
 * @param q `[B, T, H, d]` float32, d at most 256
 * @param k `[B, T, H, d]` float32
 * @param v `[B, T, H, d]` float32
 * @returns y `[B, T, H, d]`, and lse `[B, H, T]`, the log-sum-exp of the scores, for the backward
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options?: AttentionOptions & Outputs<'y' | 'lse'>,
): { y: Tensor<'float32'>; lse: Tensor<'float32'> } {
  const where = 'attention'
  const { scale, causal, out } = checkAttentionOptions(where, options, q)
  const forward = () => {
    const { handles, device } = checkTensors(where, { q, k, v })
    const outputs = outputHandles(where, out, device, ['y', 'lse'])
    const results = native.attention(
      outputs.y,
      outputs.lse,
      handles.q,
      handles.k,
      handles.v,
      scale,
      causal,
    )
    return resultTensors(device, results, out)
  }
  return recorded(where, { q, k, v }, out, forward, ({ y, lse }) => ({
    saved: { q, k, v, y, lse },
    outputs: ['y'],
    backward: ({ y: dy }) => {
      const saved = { q, k, v, y, lse }
      const { dq, dk, dv } = attentionBackward(dy as Tensor, saved, { scale, causal })
      return { q: dq, k: dk, v: dv }
    },
  }))
}

/**
 * Gradients of {@link attention}, with the same options.
 * @param dy `[B, T, H, d]` float32
 * @param saved the inputs of attention and its results
 * @returns dq, dk and dv, each `[B, T, H, d]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE
 */
export function attentionBackward(
  dy: Tensor,
  saved: { q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor },
  options?: AttentionOptions & Outputs<'dq' | 'dk' | 'dv'>,
): { dq: Tensor<'float32'>; dk: Tensor<'float32'>; dv: Tensor<'float32'> } {
  const where = 'attentionBackward'
  const { q, k, v, y, lse } = checkOptions(where, saved, ['q', 'k', 'v', 'y', 'lse'], 'saved')
  const { scale, causal, out } = checkAttentionOptions(where, options, q)
  const { handles, device } = checkTensors(where, { dy, y, lse, q, k, v })
  const outputs = outputHandles(where, out, device, ['dq', 'dk', 'dv'])
  const gradients = native.attentionBackward(
    outputs.dq,
    outputs.dk,
    outputs.dv,
    handles.dy,
    handles.y,
    handles.lse,
    handles.q,
    handles.k,
    handles.v,
    scale,
    causal,
  )
  return resultTensors(device, gradients, out)
}
