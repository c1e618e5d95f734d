import type { Device } from '../device.js'
import { fail } from '../errors.js'
import { maskedDropout } from '../ops/dropout.js'
import { checkInteger, checkNumber, checkOptions, checkSeed } from '../options.js'
import type { Tensor } from '../tensor.js'
import { MaskCounter } from './mask-counter.js'
import { Module } from './module.js'

/** Options of {@link Dropout}. */
export interface DropoutOptions {
  /** Share of elements that become 0, below 1. Default 0.1. */
  p?: number
  /** Of the mask, with the number of the call. Default: the next of the device's counter. */
  seed?: number
}

/**
 * Dropout (Srivastava et al. 2014): in training each call drops other elements and scales the rest
 * by `1 / (1 - p)`; after `eval()` x passes unchanged. The mask follows from the seed, the number
 * of the call and the element alone.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { Dropout } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const dropout = new Dropout(device, { p: 0.1 })
 * const x = device.normal([8, 64], { seed: 1 })
 * const y = dropout.apply(x) // a tenth of it 0, the rest larger
 * dropout.eval()
 * const same = dropout.apply(x)
 * ```
 */
export class Dropout extends Module {
  readonly #p: number
  /** Of the masks, with the number of the call. */
  seed: number
  readonly #calls = new MaskCounter(this, 1)

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options?: DropoutOptions) {
    super(device)
    const { p, seed } = checkOptions('Dropout', options, ['p', 'seed'])
    this.#p = checkNumber('Dropout', 'p', p ?? 0.1, 0)
    if (this.#p >= 1) fail('ERR_VALUE', 'Dropout', 'p', 'be below 1', p, '0.1 would do.')
    this.seed = device.seeds.use(checkSeed('Dropout', seed), (drawn) => drawn)
  }

  /** Calls in training so far: the masks follow from it and the seed. @throws ERR_VALUE */
  get position(): number {
    return this.#calls.value
  }

  /** The next call is the one after so many. */
  set position(value: number) {
    this.#calls.set('Dropout.position', checkInteger('Dropout', 'position', value, 0))
  }

  /** Of any shape, float32. @throws ERR_SHAPE, ERR_DTYPE */
  apply(x: Tensor): Tensor {
    if (!this.training || this.#p === 0) return x
    const { seed, step, onDevice } = this.#calls.pass()(0)
    const y = maskedDropout(x, { p: this.#p, seed, step }, onDevice)
    this.#calls.value++
    return y
  }
}
