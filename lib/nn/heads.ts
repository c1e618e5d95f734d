// How many heads attention has and how wide they are: of `Transformer` and of `Attention`. Loads
// nothing of the addon.

import { fail } from '../errors.js'
import { checkInteger } from '../options.js'

interface Heads {
  /** Of the queries. */
  heads: number
  /** Of keys and values. */
  kvHeads: number
  /** Width of a head. */
  headDim: number
}

const maxHeadDim = 256
const maxHeads = 2 ** 16

/** A divisor of `n` that is nearest to `wanted`, of those that are numbers of heads; 0: none. */
function nearestDivisor(n: number, wanted: number, isRight: (d: number) => boolean): number {
  let nearest = 0
  for (let d = 1; d <= Math.min(n, maxHeads); d++)
    if (
      n % d === 0 &&
      isRight(d) &&
      (!nearest || Math.abs(d - wanted) < Math.abs(nearest - wanted))
    )
      nearest = d
  return nearest
}

/**
 * Heads and their width with the defaults. A message names the option, its rule, and a value that
 * would do.
 * @throws ERR_VALUE
 */
export function checkHeads(
  where: string,
  dim: number,
  options: Partial<Heads>,
  rotates: boolean,
): Heads {
  const heads = checkInteger(where, 'heads', options.heads, 1, maxHeads)
  const kvHeads = checkInteger(where, 'kvHeads', options.kvHeads ?? heads)
  const fits = (headDim: number) => headDim <= maxHeadDim && !(rotates && headDim % 2 !== 0)
  const suggestHeads = () => {
    const groups = (h: number) => options.kvHeads === undefined || h % kvHeads === 0
    const would = nearestDivisor(dim, heads, (h) => fits(dim / h) && groups(h))
    return would ? `heads ${would} would do, or a headDim` : `headDim ${maxHeadDim} would do`
  }
  if (options.headDim === undefined && dim % heads !== 0)
    fail('ERR_VALUE', where, 'heads', `divide dim ${dim}`, heads, `${suggestHeads()}.`)
  if (heads % kvHeads !== 0) {
    const hint = `kvHeads ${nearestDivisor(heads, kvHeads, () => true)} would do.`
    fail('ERR_VALUE', where, 'kvHeads', `divide heads ${heads}`, kvHeads, hint)
  }
  const headDim = checkInteger(where, 'headDim', options.headDim ?? dim / heads)
  if (fits(headDim)) return { heads, kvHeads, headDim }
  const wide = headDim > maxHeadDim
  const would = wide ? maxHeadDim : headDim + 1
  const none = wide ? '' : ', or rope: false'
  const requirement = wide ? `be at most ${maxHeadDim}` : 'be even: rope turns pairs'
  if (options.headDim !== undefined)
    fail('ERR_VALUE', where, 'headDim', requirement, headDim, `headDim ${would} would do${none}.`)
  const hint = wide ? `${suggestHeads()}.` : `headDim ${would} would do${none}.`
  fail('ERR_VALUE', where, 'dim / heads', requirement, headDim, hint)
}
