import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { div, mul, sub } from './arithmetic.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

// In the order of native/ops/unary.h.
const kinds = ['exp', 'log', 'sqrt', 'tanh'] as const

/** `backward`: dx from dy and the tensor that it reads, x or the result y. */
function unary(
  where: (typeof kinds)[number],
  x: Tensor,
  options: OutOptions | undefined,
  reads: 'x' | 'y',
  backward: (dy: Tensor, read: Tensor) => Tensor,
): Tensor<'float32'> {
  const checked = checkOptions(where, options, ['out'])
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { x }, checked.out)
    const y = native.unary(where, out, handles.x, kinds.indexOf(where))
    return resultTensor(device, y, checked.out)
  }
  return recorded(where, { x }, checked.out, forward, (y) => {
    const read = reads === 'x' ? x : y
    return { saved: { [reads]: read }, backward: (dy) => ({ x: backward(dy, read) }) }
  })
}

/**
 * `e^x`, elementwise, float32, within 3 ulp; `out` may be x.
 * @param x any shape, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function exp(x: Tensor, options?: OutOptions): Tensor<'float32'> {
  return unary('exp', x, options, 'y', mul)
}

/**
 * The natural logarithm, elementwise, float32, within 2 ulp: -Infinity at 0, NaN below; `out` may
 * be x.
 * @param x any shape, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function log(x: Tensor, options?: OutOptions): Tensor<'float32'> {
  return unary('log', x, options, 'x', div)
}

/**
 * The square root, elementwise, float32, correctly rounded: NaN below 0; `out` may be x.
 * @param x any shape, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function sqrt(x: Tensor, options?: OutOptions): Tensor<'float32'> {
  return unary('sqrt', x, options, 'y', (dy, y) => {
    const dx = div(dy, y)
    return mul(dx, 0.5, { out: dx })
  })
}

/**
 * The hyperbolic tangent, elementwise, float32, within 3 ulp; `out` may be x.
 * @param x any shape, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function tanh(x: Tensor, options?: OutOptions): Tensor<'float32'> {
  return unary('tanh', x, options, 'y', (dy, y) => {
    const dx = mul(y, y)
    sub(1, dx, { out: dx })
    return mul(dy, dx, { out: dx })
  })
}
