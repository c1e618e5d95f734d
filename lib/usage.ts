// What a layer's slots were read for: counted on the device by every forward, summed up and read
// back by usage().

import { native, type TensorHandle } from './binding.js'

/** How the slots of a layer were read since the last call of `usage()`. */
export interface SlotUsage {
  /** All slots of the table. */
  slots: number
  /** Entries read: tokens * heads * knn of every forward. */
  reads: number
  /** Slots that were read at least once. */
  slotsRead: number
  /** Share of slots that were read at least once since the layer was made. */
  everRead: number
  /**
   * Entropy of the reads over the slots, in nats: 0 where all reads are of one slot, ln(slots)
   * where they are spread evenly.
   */
  entropy: number
}

// SlotStatistics of native/ops/slot_usage.h.
export async function readUsage(slots: number, statistics: TensorHandle): Promise<SlotUsage> {
  const [reads, slotsRead, ever, logs] = new Float64Array(
    await native.tensorRead(statistics),
  ) as unknown as [number, number, number, number]
  native.tensorDispose(statistics)
  // What rounding leaves of a difference that is 0 is not below it.
  const entropy = reads === 0 ? 0 : Math.max(0, Math.log(reads) - logs / reads)
  return { slots, reads, slotsRead, everRead: ever / slots, entropy }
}
