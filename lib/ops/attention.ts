import { native, type TensorHandle } from '../binding.js'
import { boolean, number, options } from '../options.js'
import { handles, type Tensor } from '../tensor.js'
import { type Outputs, outputs, prepare, wrap } from './call.js'

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the scores. Default `1 / sqrt(d)`. */
  scale?: number
  /** Each time sees itself and those before it alone. Default true. */
  causal?: boolean
}

function attentionOptions(
  where: string,
  given: (AttentionOptions & Outputs<string>) | undefined,
  q: Tensor,
) {
  const o = options(where, given, ['scale', 'causal', 'out'])
  handles(where, { q })
  const scale = number(where, 'scale', o.scale ?? 1 / Math.sqrt(q.shape.at(-1) || 1))
  return { scale, causal: boolean(where, 'causal', o.causal ?? true), out: o.out }
}

/** Scaled dot-product attention (Vaswani et al. 2017): `y[t] = sum_u softmax_u(scale <q[t], k[u]>) v[u]` for each batch and head.
 * @param q `[B, T, H, d]` float32, d at most 256; k and v alike
 * @returns y `[B, T, H, d]`, and lse `[B, H, T]`, the logarithms of the softmax's sums, for the
 * backward
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  given?: AttentionOptions & Outputs<'y' | 'lse'>,
): { y: Tensor; lse: Tensor } {
  const { scale, causal, out } = attentionOptions('attention', given, q)
  const { list, device } = prepare('attention', { q, k, v })
  const [y, lse] = outputs('attention', out, device, 'y', 'lse')
  const r = native.attention(y, lse, list[0]!, list[1]!, list[2]!, scale, causal)
  return { y: wrap(device, r.y, out?.['y']), lse: wrap(device, r.lse, out?.['lse']) }
}

/** Gradients of {@link attention}, each `[B, T, H, d]`, with the same options. @param saved its inputs and what it gave
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE */
export function attentionBackward(
  dy: Tensor,
  saved: { q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor },
  given?: AttentionOptions & Outputs<'dq' | 'dk' | 'dv'>,
): { dq: Tensor; dk: Tensor; dv: Tensor } {
  const where = 'attentionBackward'
  const { q, k, v, y, lse } = options(where, saved, ['q', 'k', 'v', 'y', 'lse']) as typeof saved
  const { scale, causal, out } = attentionOptions(where, given, q)
  const { list, device } = prepare(where, { dy, y, lse, q, k, v })
  const [g, yh, z, qh, kh, vh] = list as [
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
  ]
  const [dq, dk, dv] = outputs(where, out, device, 'dq', 'dk', 'dv')
  const r = native.attentionBackward(dq, dk, dv, g, yh, z, qh, kh, vh, scale, causal)
  return {
    dq: wrap(device, r.dq, out?.['dq']),
    dk: wrap(device, r.dk, out?.['dk']),
    dv: wrap(device, r.dv, out?.['dv']),
  }
}
