// One step of training: all of it is enqueued at once, and what it gave is read later.

import { native, type TensorHandle } from '../binding.js'
import type { Device } from '../device.js'
import { isNumericData } from '../encode.js'
import { fail, isArray } from '../errors.js'
import { TableLayer } from '../layer.js'
import { mul } from '../ops.js'
import { clipGradNorm } from '../optim.js'
import { checkNumber } from '../options.js'
import { distinctParameters } from '../parameter-groups.js'
import { type Replicas, sumGradients } from '../sharding/gradients.js'
import { worldLoss } from '../sharding/loss.js'
import { expectTokens } from '../sharding/token-counts.js'
import { Tensor } from '../tensor.js'
import type { SlotUsage } from '../usage.js'
import type { World } from '../world.js'
import type { CheckedFit, StepInfo, Trainable, TrainingBatch } from './fit-options.js'
import { partsOf } from './parts.js'

const where = 'fit'

/** A step that is enqueued. */
export interface PendingStep {
  readonly step: number
  readonly lr: number
  readonly tableLr: number | undefined
  readonly targets: number
  /** Reject with the fault of the step, or of one before it. */
  readonly losses: Promise<number[]>
  readonly norms: Promise<number[]>
  readonly usage: Promise<Record<string, SlotUsage> | undefined>
}

/** What a step found of its loss: a check on the device, which its updates depend on. */
interface Checked {
  readonly values: Promise<number[]>
  readonly unit: TensorHandle
}

/**
 * Enqueues steps. Each depends on a check that its loss is finite, and on those of all steps before
 * it: where one fails, neither its step nor any behind it updates anything.
 */
export class Steps<Tokens, Targets> {
  readonly #model: Trainable<Tokens, Targets>
  readonly #options: CheckedFit
  readonly #device: Device
  readonly #replicas: Replicas
  #passed: TensorHandle | undefined

  constructor(
    model: Trainable<Tokens, Targets>,
    options: CheckedFit,
    device: Device,
    replicas: Replicas,
  ) {
    this.#replicas = replicas
    this.#model = model
    this.#options = options
    this.#device = device
  }

  /**
   * @param tokens of each batch, of each rank
   * @throws what the model throws; nothing but gradients has changed then
   */
  async enqueue(
    step: number,
    batches: readonly TrainingBatch<Tokens, Targets>[],
    targets: number,
    tokens: readonly (readonly number[])[],
  ): Promise<PendingStep> {
    const { optimizer, schedule, clip, every, onStep, world } = this.#options
    const before = optimizer.lr
    const factor = schedule && checkNumber(where, `schedule(${step})`, schedule(step))
    if (factor !== undefined) optimizer.lr = optimizer.baseLr * factor
    const { lr, tableLr } = optimizer
    try {
      const losses = batches.map((batch, i) => {
        if (world) this.#expectTokens(world, tokens[i]!)
        return this.#backward(step, batch, 1 / batches.length)
      })
      if (world) await sumGradients(world, this.#model.parameters(), this.#replicas)
      const norms: number[] | Promise<number[]> = clip ? this.#clip(step, clip) : []
      optimizer.stepIf(this.#passed)
      return {
        step,
        lr,
        tableLr,
        targets,
        losses: handled(Promise.all(losses).then((values) => values.flat())),
        norms: handled(Promise.resolve(norms)),
        usage: handled(onStep && step % every === 0 ? this.#usage() : Promise.resolve(undefined)),
      }
    } catch (error) {
      optimizer.lr = before
      throw error
    } finally {
      if (world) this.#expectTokens(world, undefined)
      optimizer.zeroGrad()
    }
  }

  /** Of the ranks that divide a table among them, each hears how many tokens the others have. */
  #expectTokens(world: World, tokens: readonly number[] | undefined): void {
    const { tables } = distinctParameters(where, this.#model.parameters())
    for (const group of new Set(tables.map(({ table }) => table.shard?.group)))
      if (group) expectTokens(group, tokens && group.ranksIn(world).map((rank) => tokens[rank]!))
  }

  /** Frees the check of the last step. */
  dispose(): void {
    if (this.#passed) native.tensorDispose(this.#passed)
    this.#passed = undefined
  }

  #backward(
    step: number,
    { tokens, targets }: TrainingBatch<Tokens, Targets>,
    scale: number,
  ): Promise<number[]> {
    const loss: unknown = this.#model.loss(tokens, targets)
    if (!Tensor.is(loss) || loss.size !== 1)
      fail('ERR_VALUE', where, 'model.loss', 'return a tensor of one element', loss)
    const { world } = this.#options
    const shared = world && worldLoss(world, loss, targets)
    try {
      const { values, unit } = this.#check(step, shared?.mean ?? loss, false, scale)
      const one = new Tensor<'float32'>(this.#device, native.tensorView(unit, 0, loss.shape))
      const dy = shared ? mul(one, shared.share.reshape(loss.shape)) : one
      try {
        loss.backward(dy)
      } finally {
        dy.dispose()
        one.dispose()
      }
      return values
    } finally {
      shared?.mean.dispose()
      shared?.share.dispose()
      loss.dispose()
    }
  }

  #clip(step: number, { maxNorm, tables }: NonNullable<CheckedFit['clip']>): Promise<number[]> {
    const norms = clipGradNorm(this.#model.parameters(), maxNorm, { tables })
    try {
      return this.#check(step, norms, true, 1).values
    } finally {
      norms.dispose()
    }
  }

  #check(step: number, x: Tensor, norm: boolean, scale: number): Checked {
    const handle = x.handle(where, 'loss')
    const { values, unit } = native.requireFinite(handle, this.#passed, norm, step, scale)
    if (this.#passed) native.tensorDispose(this.#passed)
    this.#passed = unit
    try {
      const read = native.tensorRead(values).then((bytes) => [...new Float32Array(bytes)])
      return { values: handled(read), unit }
    } finally {
      native.tensorDispose(values)
    }
  }

  async #usage(): Promise<Record<string, SlotUsage>> {
    const layers = [...partsOf(this.#model, (value) => value instanceof TableLayer)]
    const read = await Promise.all(
      layers.map(async ([path, layer]) => [path, await layer.usage()] as const),
    )
    return Object.fromEntries(read)
  }
}

/** Arrays in arrays that are counted: deeper ones are no batch, or have no end. */
const maxDepth = 4

/**
 * How many numbers a batch has: in a tensor, a typed array, or arrays of them. 0 for what else it
 * may be: the model says whether it takes that.
 */
export function countOf(numbers: unknown, depth = 0): number {
  if (Tensor.is(numbers)) return numbers.size
  if (!isNumericData(numbers)) return 0
  if (!isArray(numbers)) return numbers.length
  if (depth === maxDepth) return 0
  const count = (element: unknown) =>
    typeof element === 'number' ? 1 : countOf(element, depth + 1)
  return numbers.reduce((sum: number, element) => sum + count(element), 0)
}

/** A rejection is reported where the step is, if it is awaited at all. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** What onStep gets of a step, once it has run. */
export async function finished(
  { step, lr, tableLr, targets, ...reads }: PendingStep,
  device: Device,
  since: number,
): Promise<Omit<StepInfo, 'evaluation'>> {
  const [losses, norms, usage] = await Promise.all([reads.losses, reads.norms, reads.usage])
  return {
    step,
    loss: losses.reduce((a, b) => a + b, 0) / losses.length,
    lr,
    tableLr,
    norms,
    tokensPerSecond: targets / Math.max(1e-9, (performance.now() - since) / 1000),
    memory: device.memory(),
    usage,
  }
}
