// The training loop.

import { isObject } from '../describe.js'
import type { Device } from '../device.js'
import { fail, isArray } from '../errors.js'
import { distinctParameters } from '../parameter-groups.js'
import { findReplicas, type Replicas } from '../sharding/gradients.js'
import type { World } from '../world.js'
import { RunCheckpoints } from './fit-checkpoints.js'
import {
  type CheckedFit,
  checkFit,
  checkModel,
  type FitOptions,
  type StepInfo,
  type Trainable,
  type TrainingBatch,
} from './fit-options.js'
import { countOf, finished, type PendingStep, Steps } from './fit-step.js'
import { checkRanks } from './fit-world.js'
import { isResumable, type Resumable } from './resumable.js'

const where = 'fit'
/** So that the device has work while a step is read back, and memory stays bounded. */
const maxInFlight = 3

/** How a run ended. */
export interface FitResult {
  /** Steps done, those before a resume included. */
  readonly step: number
  /** What `onStep` got of the last of them; undefined where this run did none. */
  readonly last: StepInfo | undefined
  /** Whether the signal ended it. */
  readonly aborted: boolean
}

/**
 * Trains a model: loss, backward, clipping and the optimizer's step for each batch, or each
 * `accumulate` batches. At most three steps are in flight.
 *
 * A loss or norm that is not finite ends the run. That is decided on the device, so neither its
 * step nor those in flight behind it have changed a parameter, a table or a state.
 *
 * A run that is resumed goes on with the bits of one that never stopped, if its batches do: a
 * {@link TextDataset} goes on at its position, of any other iterable as many batches are skipped as
 * were taken.
 *
 * ```ts
 * import { AdamW, openDevice } from 'memory-layers'
 * import { fit, schedules, TextDataset, Transformer } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const text = 'to be or not to be, that is the question'
 * const data = new TextDataset(text, { device, contextLength: 8, batchSize: 2 })
 * const model = new Transformer(device, {
 *   vocabSize: 97, dim: 32, layers: 2, heads: 2, contextLength: 8, feedForward: { kind: 'gelu' },
 * })
 * const optimizer = new AdamW(model.parameters(), { lr: 1e-3 })
 * await fit(model, data, {
 *   optimizer,
 *   schedule: schedules.warmupCosine({ warmup: 2, total: 10, floor: 0.1 }),
 *   steps: 10,
 *   clip: 1,
 *   onStep: ({ step, loss }) => console.log(step, loss),
 * })
 * ```
 * @param batches any iterable of `{ tokens, targets }`; those with a `dispose` method are disposed
 * @throws ERR_VALUE naming the step, for a loss that is not finite, and as model, optimizer and
 * files throw; ERR_OPTION. After an error no step is half done
 */
export async function fit<Tokens, Targets>(
  model: Trainable<Tokens, Targets>,
  batches: Iterable<TrainingBatch<Tokens, Targets>> | AsyncIterable<TrainingBatch<Tokens, Targets>>,
  options: FitOptions,
): Promise<FitResult> {
  const checked = checkFit(options)
  checkModel(model)
  checkBatches(batches)
  const { device } = distinctParameters(where, model.parameters(), 'model.parameters()')
  const { world } = checked
  if (world) await checkRanks(world, model, checked, device)
  const replicas = world ? await findReplicas(world, model.parameters()) : new Map<World, World>()
  const run = new Run(model, batches, checked, device, replicas)
  return run.train()
}

function checkBatches(batches: unknown): void {
  if (isObject(batches) || isArray(batches)) {
    const { [Symbol.asyncIterator]: async, [Symbol.iterator]: sync } = batches as Partial<
      AsyncIterable<unknown> & Iterable<unknown>
    >
    if (typeof (async ?? sync) === 'function') return
  }
  fail('ERR_VALUE', where, 'batches', 'be iterable', batches)
}

/** Of a step: all targets, and the tokens of each batch, of each rank. */
interface Sizes {
  targets: number
  tokens: number[][]
}

type Batches<T, U> = Iterable<TrainingBatch<T, U>> | AsyncIterable<TrainingBatch<T, U>>

class Run<Tokens, Targets> {
  readonly #model: Trainable<Tokens, Targets>
  readonly #batches: Batches<Tokens, Targets>
  readonly #options: CheckedFit
  readonly #device: Device
  readonly #steps: Steps<Tokens, Targets>
  readonly #checkpoints: RunCheckpoints
  readonly #inFlight: PendingStep[] = []
  /** Batches taken, those before a resume included. */
  #taken = 0
  #step = 0
  #aborted = false
  #last: StepInfo | undefined
  #finishedAt = 0

  constructor(
    model: Trainable<Tokens, Targets>,
    batches: Batches<Tokens, Targets>,
    options: CheckedFit,
    device: Device,
    replicas: Replicas,
  ) {
    this.#model = model
    this.#batches = batches
    this.#options = options
    this.#device = device
    this.#steps = new Steps(model, options, device, replicas)
    const data: Resumable | undefined = isResumable(batches) ? batches : undefined
    this.#checkpoints = new RunCheckpoints(model, options, data)
  }

  async train(): Promise<FitResult> {
    const skip = await this.#resume()
    this.#model.train?.()
    const iterator = iteratorOf(this.#batches)
    this.#finishedAt = performance.now()
    try {
      for (let i = 0; i < skip; i++) if (!(await take(iterator))) break
      while (this.#step < this.#options.steps && !this.#ended()) {
        const batches = await this.#next(iterator)
        const sizes = await this.#agree(batches)
        if (!batches || !sizes) break
        await this.#doStep(batches, sizes)
      }
      await this.#drain()
      // What the last step sends must have arrived before a world is closed.
      if (this.#options.world) await this.#device.synchronize()
      await this.#checkpoints.save(this.#step, this.#taken)
    } catch (error) {
      await this.#settle()
      throw error
    } finally {
      this.#steps.dispose()
      await iterator.return?.()
    }
    const aborted = this.#ended()
    return { step: this.#step, last: this.#last, aborted }
  }

  #ended(): boolean {
    const { world, signal } = this.#options
    if (!world) this.#aborted = signal?.aborted ?? false
    return this.#aborted
  }

  /**
   * The sizes of the step on all ranks; undefined where one has no more batches. A rank that is
   * told to end has the others do this step with it, so that all have taken as many batches.
   */
  async #agree(batches: TrainingBatch<Tokens, Targets>[] | undefined): Promise<Sizes | undefined> {
    const { world, signal, accumulate } = this.#options
    const targets = batches?.reduce((sum, { targets }) => sum + countOf(targets), 0)
    if (!world) return targets === undefined ? undefined : { targets, tokens: [] }
    const own = batches?.map(({ tokens }) => countOf(tokens)) ?? new Array(accumulate).fill(0)
    const all = await world.exchange([targets ?? -1, signal?.aborted ? 1 : 0, ...own])
    this.#aborted = all.some(([, aborted]) => aborted === 1)
    if (all.some(([count]) => count === -1)) return drop(batches)
    return {
      targets: all.reduce((sum, [count]) => sum + count!, 0),
      tokens: own.map((_, i) => all.map((counts) => counts[i + 2]!)),
    }
  }

  /** How many batches are to be skipped. */
  async #resume(): Promise<number> {
    const found = await this.#checkpoints.load()
    if (!found) return 0
    this.#step = found.step
    this.#taken = found.taken
    return isResumable(this.#batches) ? 0 : found.taken
  }

  /** The batches of a step; undefined where there are none left. */
  async #next(
    iterator: BatchIterator<Tokens, Targets>,
  ): Promise<TrainingBatch<Tokens, Targets>[] | undefined> {
    const batches: TrainingBatch<Tokens, Targets>[] = []
    while (batches.length < this.#options.accumulate) {
      const batch = await take(iterator)
      if (!batch) break
      batches.push(batch)
    }
    if (batches.length === this.#options.accumulate) return batches
    return drop(batches)
  }

  async #doStep(
    batches: TrainingBatch<Tokens, Targets>[],
    { targets, tokens }: Sizes,
  ): Promise<void> {
    const { every, evaluate, checkpoint } = this.#options
    const step = this.#step + 1
    try {
      this.#inFlight.push(await this.#steps.enqueue(step, batches, targets, tokens))
    } finally {
      for (const batch of batches) batch.dispose?.()
    }
    this.#step = step
    this.#taken += batches.length
    const evaluates = evaluate !== undefined && step % every === 0
    while (this.#inFlight.length > (evaluates ? 1 : maxInFlight - 1)) await this.#report()
    if (evaluates) await this.#report(await this.#evaluate(step))
    if (checkpoint && step % checkpoint.every === 0) {
      await this.#drain()
      await this.#checkpoints.save(step, this.#taken)
    }
  }

  async #evaluate(step: number): Promise<unknown> {
    this.#model.eval?.()
    try {
      return await this.#options.evaluate?.(step)
    } finally {
      this.#model.train?.()
    }
  }

  /** Waits for the oldest step in flight and tells of it. */
  async #report(evaluation?: unknown): Promise<void> {
    const pending = this.#inFlight.shift()
    if (!pending) return
    const info = await finished(pending, this.#device, this.#finishedAt)
    this.#finishedAt = performance.now()
    this.#last = { ...info, evaluation }
    await this.#options.onStep?.(this.#last)
  }

  async #drain(): Promise<void> {
    while (this.#inFlight.length > 0) await this.#report()
  }

  /** After an error: all that is in flight has ended, and no gradient is left. */
  async #settle(): Promise<void> {
    for (const { losses, norms, usage } of this.#inFlight.splice(0))
      await Promise.allSettled([losses, norms, usage])
  }
}

function drop(batches: readonly { dispose?(): void }[] | undefined): undefined {
  for (const batch of batches ?? []) batch.dispose?.()
}

type BatchIterator<T, U> = Iterator<TrainingBatch<T, U>> | AsyncIterator<TrainingBatch<T, U>>

function iteratorOf<T, U>(batches: Batches<T, U>): BatchIterator<T, U> {
  const { [Symbol.asyncIterator]: async } = batches as Partial<AsyncIterable<TrainingBatch<T, U>>>
  const iterator =
    typeof async === 'function'
      ? (batches as AsyncIterable<TrainingBatch<T, U>>)[Symbol.asyncIterator]()
      : (batches as Iterable<TrainingBatch<T, U>>)[Symbol.iterator]()
  if (!isObject(iterator) || typeof iterator.next !== 'function')
    fail('ERR_VALUE', where, 'batches', 'have an iterator with next()', iterator)
  return iterator
}

async function take<T, U>(iterator: BatchIterator<T, U>): Promise<TrainingBatch<T, U> | undefined> {
  const result: unknown = await iterator.next()
  if (!isObject(result)) fail('ERR_VALUE', where, 'batches', 'give iterator results', result)
  const { done, value } = result as IteratorResult<TrainingBatch<T, U>>
  if (done) return undefined
  if (isObject(value) && 'tokens' in value && 'targets' in value) return value
  const hint = 'TextDataset makes such batches.'
  return fail('ERR_VALUE', where, 'batches', 'give { tokens, targets }', value, hint)
}
