// The passes of a module in training, which the masks of its dropout follow from.

import type { TensorHandle } from '../binding.js'
import { capturing, refuseInCapture } from '../capturing.js'
import type { Device } from '../device.js'
import type { MaskNumbers } from '../ops/dropout.js'

/** Whose masks they are. */
interface Owner {
  readonly device: Device
  readonly seed: number
}

export class MaskCounter {
  /** Passes so far. */
  value = 0
  readonly #owner: Owner
  readonly #masks: number

  /** @param masks that each pass has */
  constructor(owner: Owner, masks: number) {
    this.#owner = owner
    this.#masks = masks
  }

  /** The next pass is the one after so many. */
  set(where: string, value: number): void {
    const hint = 'Set it before, or between replays.'
    refuseInCapture(where, this.#owner.device, 'each replay counts on from the last', hint)
    this.value = value
  }

  /** Of the masks of the pass at hand, by their number in it. */
  pass(): (mask: number) => MaskNumbers {
    const { seed, device } = this.#owner
    const counted = capturing(device)?.counterOf(this, (into) => this.#write(into))
    const first = (this.value - (counted?.start ?? 0)) * this.#masks
    const onDevice: TensorHandle | undefined = counted?.numbers
    return (mask) => ({ seed, step: first + mask, onDevice })
  }

  #write(into: DataView): void {
    into.setBigUint64(0, BigInt(this.#owner.seed), true)
    into.setBigUint64(8, BigInt(this.value * this.#masks), true)
  }
}
