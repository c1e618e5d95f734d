// Which slots of a table are read, over many batches, and which of them matter to new ones: for
// finetuning the rows of a few slots (arXiv 2510.15103).

import { disposeOnError } from './atomically.js'
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
      return { reads: zeros(slots), batches: zeros(slots), total: zeros(1), marks }
    })
    this.slots = slots
    this.reads = made.reads
    this.batches = made.batches
    this.total = made.total
    this.#device = device
    this.#marks = made.marks
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
      tensorHandle(where, 'indices', indices, this.#device),
      ++this.#added,
    )
  }

  /** `reads`, `batches` and `total`, live: for a checkpoint. */
  stateDict(): StateDict {
    return stateDictOf(this.#entries())
  }

  /** Goes on from the counts of another counter of as many slots. @throws ERR_STATE_DICT */
  loadStateDict(state: StateDict): void {
    loadStateDict('SlotCounter.loadStateDict', this.#entries(), state)
  }

  /** Frees the counts. */
  dispose(): void {
    for (const t of [this.reads, this.batches, this.total, this.#marks]) t.dispose()
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
 * Equal scores are in the order of the slots. Reads the counts of all slots back.
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
  const reads = await counts.reads.data()
  const score = rule === 0 ? await tfidf(reads, background) : await divergence(reads, background)
  const scores = new Map<number, number>()
  for (const [slot, count] of reads.entries()) if (count > 0) scores.set(slot, score(slot, count))
  const ranked = [...scores].sort(([i, a], [j, b]) => b - a || i - j).slice(0, most)
  return {
    slots: Int32Array.from(ranked, ([slot]) => slot),
    scores: Float64Array.from(ranked, ([, value]) => value),
  }
}

/** From a slot and its reads to its score. */
type Score = (slot: number, count: number) => number

async function tfidf(reads: Int32Array, background: SlotCounter): Promise<Score> {
  const [batches, [total = 0]] = [await background.batches.data(), await background.total.data()]
  const all = sum(reads)
  return (slot, count) => (count / all) * Math.log((total + 1) / (batches[slot]! + 1))
}

async function divergence(reads: Int32Array, background: SlotCounter): Promise<Score> {
  const others = await background.reads.data()
  const [all, allOthers] = [sum(reads), sum(others) + others.length]
  return (slot, count) => {
    const p = count / all
    return p * Math.log(p / ((others[slot]! + 1) / allOthers))
  }
}

const sum = (numbers: Int32Array) => numbers.reduce((total, n) => total + n, 0)

function checkCounter(argument: string, value: unknown): void {
  if (!isInstance(value, SlotCounter))
    fail('ERR_VALUE', 'rankSlots', argument, 'be a SlotCounter', describeValue(value))
}
