// The options of fit, and their check.

import { isInstance, isObject } from '../describe.js'
import type { MemoryInfo } from '../device.js'
import { fail } from '../errors.js'
import { checkPath } from '../files/system.js'
import type { ClipOptions } from '../optim.js'
import { Optimizer } from '../optimizer.js'
import { checkChoice, checkInteger, checkNumber, checkOptions } from '../options.js'
import type { Parameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import type { SlotUsage } from '../usage.js'
import { World } from '../world.js'
import type { Stateful } from './checkpoint.js'
import type { Schedule } from './schedules.js'

/** What {@link fit} trains: `Transformer`, or anything with a loss. */
export interface Trainable<Tokens = Tensor, Targets = Tensor> extends Stateful {
  /** One number, recorded for `backward()`. */
  loss(tokens: Tokens, targets: Targets): Tensor
  /** For the optimizer. */
  parameters(): readonly Parameter[]
  /** Called before training, if it is there: dropout drops. */
  train?(): unknown
  /** Called around `evaluate`, if it is there. */
  eval?(): unknown
}

/** What a step trains on. */
export interface TrainingBatch<Tokens = Tensor, Targets = Tensor> {
  /** As the model takes them. */
  readonly tokens: Tokens
  /** As the model takes them. */
  readonly targets: Targets
  /** A batch with this method is disposed by fit, once its step is enqueued. */
  dispose?(): void
}

/** What `onStep` gets. */
export interface StepInfo {
  /** From 1. */
  readonly step: number
  /** Mean of the losses of the step's batches. */
  readonly loss: number
  /** Learning rate of the step. */
  readonly lr: number
  /** Learning rate of the memory tables, where it is another. */
  readonly tableLr: number | undefined
  /**
   * Norms of the gradients before clipping: one, or with `tables: 'apart'` that of dense parameters
   * and that of memory tables. Empty without `clip`.
   */
  readonly norms: readonly number[]
  /** Targets of the step by the time since the step before. */
  readonly tokensPerSecond: number
  /** Of the device. */
  readonly memory: MemoryInfo
  /** At every `every`-th step, of each memory and PEER layer by its path in the model. */
  readonly usage: Readonly<Record<string, SlotUsage>> | undefined
  /** At every `every`-th step, what `evaluate` gave. */
  readonly evaluation: unknown
}

/** Where and how often checkpoints are written. */
export interface CheckpointOptions {
  /** Of the newest. */
  path: string
  /** Steps from one to the next; one more is written at the end. Default: at the end only. */
  every?: number
  /** How many are kept: older ones as `<name>-<step>.<extension>` beside it. Default 1. */
  keep?: number
}

/** Options of {@link fit}. */
export interface FitOptions {
  /** Of the model's parameters. */
  optimizer: Optimizer
  /** Factor of the optimizer's `baseLr` at each step. Default: its `lr` as it is. */
  schedule?: Schedule
  /** When to stop. Default: when there are no more batches. */
  steps?: number
  /** Batches a step, whose gradients are averaged. Default 1. */
  accumulate?: number
  /** Largest norm of the gradients: a number, or with the option of `clipGradNorm`. */
  clip?: number | ({ maxNorm: number } & ClipOptions)
  /** Called every `every` steps, when all of them are done; its result goes to `onStep`. */
  evaluate?: (step: number) => unknown
  /** Steps from one `evaluate` and table use to the next. Default 100. */
  every?: number
  /** Whether and where checkpoints are written. Default: none. */
  checkpoint?: CheckpointOptions
  /** True: go on from `checkpoint.path`, where there is one. A path: from that file. */
  resume?: boolean | string
  /** Ends the run after the steps in flight, with a checkpoint. */
  signal?: AbortSignal
  /**
   * Of `initDistributed`: every rank calls `fit` with the same options and its own batches, and all
   * train one model. Gradients are those of the mean loss over the targets of all ranks, of which
   * -1 and -100 don't count; `onStep` gets that loss. The run ends when any rank has no more
   * batches, or is told to by its signal.
   */
  world?: World
  /** Called for each step in order, a few steps after it was enqueued; awaited. */
  onStep?: (info: StepInfo) => unknown
}

/** {@link FitOptions} with their defaults. */
export interface CheckedFit {
  readonly optimizer: Optimizer
  readonly schedule: Schedule | undefined
  readonly steps: number
  readonly accumulate: number
  readonly clip: { readonly maxNorm: number; readonly tables: 'together' | 'apart' } | undefined
  readonly evaluate: FitOptions['evaluate']
  readonly every: number
  readonly checkpoint: Required<CheckpointOptions> | undefined
  readonly resume: boolean | string
  readonly signal: AbortSignal | undefined
  readonly world: World | undefined
  readonly onStep: FitOptions['onStep']
}

const where = 'fit'
const names = [
  'optimizer',
  'schedule',
  'steps',
  'accumulate',
  'clip',
  'evaluate',
  'every',
  'checkpoint',
  'resume',
  'signal',
  'world',
  'onStep',
] as const satisfies readonly (keyof FitOptions)[]

/** @throws ERR_OPTION, ERR_VALUE */
export function checkFit(options: FitOptions): CheckedFit {
  const o = checkOptions(where, options, names)
  if (!isObject(o.optimizer) || !(o.optimizer instanceof Optimizer))
    fail('ERR_VALUE', where, 'optimizer', 'be an optimizer of this package', o.optimizer)
  checkFunction('schedule', o.schedule)
  checkFunction('evaluate', o.evaluate)
  checkFunction('onStep', o.onStep)
  const checkpoint = o.checkpoint === undefined ? undefined : checkCheckpoint(o.checkpoint)
  const resume: unknown = o.resume ?? false
  if (typeof resume !== 'boolean' && typeof resume !== 'string')
    fail('ERR_VALUE', where, 'resume', 'be true, false or the path of a checkpoint', resume)
  if (typeof resume === 'string') checkPath(where, resume, 'resume')
  if (resume === true && !checkpoint)
    fail('ERR_VALUE', where, 'resume', 'be a path where there is no checkpoint.path', resume)
  if (o.signal !== undefined && !isInstance(o.signal, AbortSignal))
    fail('ERR_VALUE', where, 'signal', 'be an AbortSignal', o.signal)
  if (o.world !== undefined && !World.is(o.world))
    fail('ERR_VALUE', where, 'world', 'be a world of initDistributed', o.world)
  return {
    optimizer: o.optimizer,
    schedule: o.schedule,
    steps: o.steps === undefined ? Infinity : checkInteger(where, 'steps', o.steps, 0),
    accumulate: checkInteger(where, 'accumulate', o.accumulate ?? 1),
    clip: o.clip === undefined ? undefined : checkClip(o.clip),
    evaluate: o.evaluate,
    every: checkInteger(where, 'every', o.every ?? 100),
    checkpoint,
    resume,
    signal: o.signal,
    world: o.world,
    onStep: o.onStep,
  }
}

function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function')
    fail('ERR_VALUE', where, name, 'be a function', value)
}

function checkClip(clip: NonNullable<FitOptions['clip']>): NonNullable<CheckedFit['clip']> {
  const given = typeof clip === 'number' ? { maxNorm: clip } : clip
  const { maxNorm, tables } = checkOptions(`${where}: clip`, given, ['maxNorm', 'tables'])
  return {
    maxNorm: checkNumber(where, 'clip.maxNorm', maxNorm, 0),
    tables: checkChoice(where, 'clip.tables', tables, ['together', 'apart']),
  }
}

function checkCheckpoint(given: CheckpointOptions): Required<CheckpointOptions> {
  const { path, every, keep } = checkOptions(`${where}: checkpoint`, given, [
    'path',
    'every',
    'keep',
  ])
  return {
    path: checkPath(where, path, 'checkpoint.path'),
    every: every === undefined ? Infinity : checkInteger(where, 'checkpoint.every', every),
    keep: checkInteger(where, 'checkpoint.keep', keep ?? 1, 1, 10_000),
  }
}

/** @throws ERR_VALUE */
export function checkModel<T, U>(model: Trainable<T, U>): void {
  const methods = ['loss', 'parameters', 'stateDict', 'loadStateDict'] as const
  const missing = isObject(model) ? methods.find((m) => typeof model[m] !== 'function') : 'loss'
  if (missing) fail('ERR_VALUE', where, 'model', `have a method ${missing}()`, model)
}
