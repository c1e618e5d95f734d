// Which slots of a table are read, over many batches, and which of them matter to new ones: for
// finetuning the rows of a few slots (arXiv 2510.15103).

import { atomically, disposeOnError } from './atomically.js'
import { native } from './binding.js'
import { refuseInCapture } from './capturing.js'
import { isInstance } from './describe.js'
import { checkDevice, type Device } from './device.js'
import { dtypeCode } from './dtype.js'
import { describeValue, fail } from './errors.js'
import { inspect } from './inspect.js'
import { checkInteger, checkOptions, choiceIndex } from './options.js'
import { loadStateDict, type StateDict, stateDictOf } from './state-dict.js'
import { Tensor, tensorHandle } from './tensor.js'
import { readUnwritten } from './unwritten.js'

/** Options of {@link SlotCounter}. */
export interface SlotCounterOptions {
  /** Slots of the table, N. */
  slots: number
}

/**
 * Counts on the device which slots of a table batches read: how often, and in how many batches.
 * Adding a batch takes time for its entries alone.
 *
 * ```ts
 * const background = new SlotCounter(device, { slots: memory.values.slots })
 * for (const x of batches) {
 *   const { output, context } = memory.forward(x)
 *   background.add(context.lookup().indices)
 *   output.dispose()
 *   context.dispose()
 * }
 * ```
 */
export class SlotCounter {
  /** Slots of the table, N. */
  readonly slots: number
  /** `[N]`: how often each slot was read, below 2^31. */
  readonly reads: Tensor<'int32'>
  /** `[N]`: how many batches read each slot. */
  readonly batches: Tensor<'int32'>
  /** `[1]`: how many batches there were. */
  readonly total: Tensor<'int32'>
  readonly #device: Device
  readonly #marks: Tensor
  readonly #touched: Tensor // the slots with reads, as many as #sums says
  readonly #sums: Tensor // ReadSums of native/ops/slot_usage.h
  #added = 0

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: SlotCounterOptions) {
    const where = 'SlotCounter'
    checkDevice(where, device)
    const checked = checkOptions(where, options, ['slots'])
    const slots = checkInteger(where, 'slots', checked.slots, 1, 2 ** 31 - 1)
    const made = disposeOnError(() => {
      const code = dtypeCode(where, 'int32')
      const marks = new Tensor(device, native.tensorEmpty(device.handle, [slots, 2], code, where))
      native.tensorFill(marks.handle(where, 'marks'), -1)
      const zeros = (n: number) => device.zeros([n], 'int32')
      const counts = { reads: zeros(slots), batches: zeros(slots), total: zeros(1) }
      return { ...counts, marks, touched: device.empty([slots], 'int32'), sums: zeros(4) }
    })
    this.slots = slots
    this.reads = made.reads
    this.batches = made.batches
    this.total = made.total
    this.#device = device
    this.#marks = made.marks
    this.#touched = made.touched
    this.#sums = made.sums
  }

  /**
   * Counts the reads of one batch.
   * @param indices int32 of any shape: slots, or -1, which counts for nothing
   * @throws ERR_DTYPE, ERR_DISPOSED; ERR_INDEX_RANGE at the next wait, and the batch is not counted
   */
  add(indices: Tensor): void {
    const where = 'SlotCounter.add'
    refuseInCapture(where, this.#device, 'each call has a number of its own')
    native.countReads(
      this.reads.handle(where, 'reads'),
      this.batches.handle(where, 'batches'),
      this.#marks.handle(where, 'marks'),
      this.total.handle(where, 'total'),
      this.#touched.handle(where, 'touched'),
      this.#sums.handle(where, 'sums'),
      tensorHandle(where, 'indices', indices, this.#device),
      ++this.#added,
    )
  }

  /**
   * `reads`, `batches` and `total`, live. A counter is a part of a checkpoint like any other:
   * `saveCheckpoint(path, { model, background })`.
   */
  stateDict(): StateDict {
    return stateDictOf(this.#entries())
  }

  /** Goes on from the counts of another counter of as many slots. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    const where = 'SlotCounter.loadStateDict'
    atomically(this.#device, () => {
      loadStateDict(where, this.#entries(), state)
      const handles = [this.#touched, this.#sums, this.reads].map((t) => t.handle(where, 'this'))
      native.listReads(handles[0]!, handles[1]!, handles[2]!)
    })
  }

  /**
   * @internal What was read: the slots, in any order, their reads, those of all slots, and what
   * `also` reads of the same slots, all at one time.
   */
  async readCounts<T>(
    where: string,
    also: (slots: Tensor) => Promise<T>,
  ): Promise<Counts & { also: T }> {
    const reads = this.reads.handle(where, 'counts')
    const sums = await readUnwritten(
      reads,
      async () => new BigUint64Array(await native.tensorRead(this.#sums.handle(where, 'counts'))),
      ([slots, entries]) => ({ slots: this.#touched.rows(0, Number(slots)), entries }),
    )
    const { slots, entries } = sums
    try {
      const [list, counts, found] = await Promise.all([
        slots.data() as Promise<Int32Array>,
        this.readAt(where, 'reads', slots),
        also(slots),
      ])
      return { slots: list, reads: counts, entries: Number(entries), also: found }
    } finally {
      slots.dispose()
    }
  }

  /** @internal The counts of some slots. */
  async readAt(where: string, which: 'reads' | 'batches', slots: Tensor): Promise<Int32Array> {
    const counts = this[which].reshape([this.slots, 1])
    try {
      const read = native.readRows(counts.handle(where, which), slots.handle(where, 'slots'))
      const bits = native.tensorRead(read, where)
      native.tensorDispose(read)
      return new Int32Array(await bits)
    } finally {
      counts.dispose()
    }
  }

  /** @internal Reads of all slots. */
  async readEntries(where: string): Promise<number> {
    const sums = await native.tensorRead(this.#sums.handle(where, 'background'), where)
    return Number(new BigUint64Array(sums)[1])
  }

  /** Frees the counts. */
  dispose(): void {
    const { reads, batches, total } = this
    for (const t of [reads, batches, total, this.#marks, this.#touched, this.#sums]) t.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    const disposed = this.reads.disposed ? ', disposed' : ''
    return `SlotCounter of ${this.slots} slots on ${this.#device.name}${disposed}`
  }

  #entries(): { name: string; value: Tensor }[] {
    const { reads, batches, total } = this
    return Object.entries({ reads, batches, total }).map(([name, value]) => ({ name, value }))
  }
}

/** Of the slots with reads. */
interface Counts {
  readonly slots: Int32Array
  readonly reads: Int32Array
  /** Of all slots. */
  readonly entries: number
}

/** Options of {@link rankSlots}. */
export interface RankSlotsOptions {
  /** What slots are read for otherwise: counted over many batches of text like that of training. */
  background: SlotCounter
  /** How many slots to return, at most. */
  top: number
  /** Default 'tfidf'. */
  by?: 'tfidf' | 'kl'
}

/** Slots and their scores, the best first. */
export interface RankedSlots {
  /** At most `top`, and none that was not read. */
  slots: Int32Array
  /** Of these slots. */
  scores: Float64Array
}

/**
 * The slots that a batch of new facts reads and other text does not. With c(i) the reads of slot i,
 * p(i) their share of all reads:
 * - `'tfidf'` (arXiv 2510.15103): `p(i) * ln((B + 1) / (df(i) + 1))`, where df(i) of the B batches
 *   of the background read the slot
 * - `'kl'` (arXiv 2604.05248): `p(i) * ln(p(i) / q(i))`, where q(i) is the share of the reads of
 *   the background, of which each of the N slots gets one more, so that q(i) > 0
 *
 * Equal scores are in the order of the slots. Takes time for the slots that were read alone,
 * however many there are.
 * @throws ERR_VALUE, ERR_OPTION, ERR_DISPOSED
 */
export async function rankSlots(
  counts: SlotCounter,
  options: RankSlotsOptions,
): Promise<RankedSlots> {
  const where = 'rankSlots'
  const { background, top, by } = checkOptions(where, options, ['background', 'top', 'by'])
  checkCounter('counts', counts)
  checkCounter('background', background)
  if (background.slots !== counts.slots)
    fail(
      'ERR_VALUE',
      where,
      'background',
      `count ${counts.slots} slots, as "counts" does`,
      background.slots,
    )
  const most = checkInteger(where, 'top', top, 1)
  const rule = choiceIndex(where, 'by', by ?? 'tfidf', ['tfidf', 'kl'])
  const { slots, scores } =
    rule === 0 ? await tfidf(counts, background) : await divergence(counts, background)
  const order = [...slots.keys()].sort((a, b) => scores[b]! - scores[a]! || slots[a]! - slots[b]!)
  const ranked = order.slice(0, most)
  return {
    slots: Int32Array.from(ranked, (i) => slots[i]!),
    scores: Float64Array.from(ranked, (i) => scores[i]!),
  }
}

async function tfidf(counts: SlotCounter, background: SlotCounter): Promise<RankedSlots> {
  const { slots, reads, entries, also } = await counts.readCounts('rankSlots', (touched) =>
    Promise.all([background.readAt('rankSlots', 'batches', touched), background.total.data()]),
  )
  const [batches, [total = 0]] = also
  const score = (count: number, i: number) =>
    (count / entries) * Math.log((total + 1) / (batches[i]! + 1))
  return { slots, scores: Float64Array.from(reads, score) }
}

async function divergence(counts: SlotCounter, background: SlotCounter): Promise<RankedSlots> {
  const { slots, reads, entries, also } = await counts.readCounts('rankSlots', (touched) =>
    Promise.all([
      background.readAt('rankSlots', 'reads', touched),
      background.readEntries('rankSlots'),
    ]),
  )
  const [others, allOthers] = also
  const score = (count: number, i: number) => {
    const p = count / entries
    return p * Math.log(p / ((others[i]! + 1) / (allOthers + background.slots)))
  }
  return { slots, scores: Float64Array.from(reads, score) }
}

function checkCounter(argument: string, value: unknown): void {
  if (!isInstance(value, SlotCounter))
    fail('ERR_VALUE', 'rankSlots', argument, 'be a SlotCounter', describeValue(value))
}
