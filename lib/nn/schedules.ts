// Learning rate schedules: functions of the step, from 1, that give a factor of the constructor's
// rate. Linear warm-up from 0 to 1 in `warmup` steps, then down to `floor` at step `total`.

import { fail } from '../errors.js'
import { checkInteger, checkNumber, checkOptions } from '../options.js'

/** The factor of the learning rate at a step; the first step is 1. */
export type Schedule = (step: number) => number

/** Options of the schedules that fall. */
export interface ScheduleOptions {
  /** Steps from 0 up to the full rate. Default 0. */
  warmup?: number
  /** The step at which the floor is reached; it stays there. */
  total: number
  /** The last factor, from 0 to 1. Default 0. */
  floor?: number
}

/** Options of `schedules.constant`. */
export type ConstantOptions = Pick<ScheduleOptions, 'warmup'>

function rising(step: number, warmup: number): number {
  return step < warmup ? Math.max(0, step / warmup) : 1
}

/** A step is a finite number. */
function checked(where: string, factor: Schedule): Schedule {
  return (step) => factor(checkNumber(where, 'step', step))
}

/** shape(0) = 1, shape(1) = 0. */
function falling(
  where: string,
  options: ScheduleOptions,
  shape: (done: number) => number,
): Schedule {
  const given = checkOptions(where, options, ['warmup', 'total', 'floor'])
  const total = checkInteger(where, 'total', given.total)
  const warmup = checkInteger(where, 'warmup', given.warmup ?? 0, 0)
  const floor = checkNumber(where, 'floor', given.floor ?? 0, 0)
  if (floor > 1) fail('ERR_VALUE', where, 'floor', 'be at most 1: it is a factor', floor)
  if (warmup >= total) {
    const hint = `warmup ${Math.floor(total / 10)} would do.`
    fail('ERR_VALUE', where, 'warmup', `be below total ${total}`, warmup, hint)
  }
  return checked(where, (step) => {
    if (step < warmup) return rising(step, warmup)
    if (step >= total) return floor
    return floor + (1 - floor) * shape((step - warmup) / (total - warmup))
  })
}

/** Learning rate schedules, as functions of the step that give a factor. */
export const schedules = {
  /**
   * Linear warm-up, then half a cosine (Loshchilov and Hutter 2017).
   * @throws ERR_OPTION, ERR_VALUE
   */
  warmupCosine(options: ScheduleOptions): Schedule {
    return falling('warmupCosine', options, (done) => (1 + Math.cos(Math.PI * done)) / 2)
  },

  /** Linear warm-up, then a line. @throws ERR_OPTION, ERR_VALUE */
  warmupLinear(options: ScheduleOptions): Schedule {
    return falling('warmupLinear', options, (done) => 1 - done)
  },

  /** The full rate, after a linear warm-up if one is given. @throws ERR_OPTION, ERR_VALUE */
  constant(options?: ConstantOptions): Schedule {
    const where = 'constant'
    const { warmup } = checkOptions(where, options, ['warmup'])
    const steps = checkInteger(where, 'warmup', warmup ?? 0, 0)
    return checked(where, (step) => rising(step, steps))
  },
} as const
