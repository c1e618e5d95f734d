// The rates of an optimizer: of its groups, dense parameters and memory tables apart, and how they
// follow `optimizer.lr`.

import { fail } from './errors.js'
import { checkLearningRate, type Hyperparameters } from './hyperparameters.js'
import type { GroupOptions } from './parameter-groups.js'

export class LearningRates {
  /** The constructor's rate. */
  readonly base: number
  /** What was set last, not checked yet. */
  lr: number
  readonly #where: string
  readonly #hyperparameters: Hyperparameters
  readonly #groups: readonly GroupOptions[]
  #tableLr: number | undefined
  #detached = false
  #current: { lr: number; rates: readonly number[] } | undefined

  /** @throws ERR_VALUE for a group's rate that the rule can't take */
  constructor(where: string, hyperparameters: Hyperparameters, groups: readonly GroupOptions[]) {
    this.#where = where
    this.#hyperparameters = hyperparameters
    this.#groups = groups
    this.base = hyperparameters.lr
    this.lr = hyperparameters.lr
    this.#tableLr = hyperparameters.tableLr
    for (const group of groups) for (const memory of [false, true]) this.#rate(group, memory)
  }

  /** Undefined: memory tables have the rate of dense parameters. */
  get tableLr(): number | undefined {
    if (this.#tableLr === undefined || this.#detached || this.lr === this.base) return this.#tableLr
    const lr: unknown = this.lr
    return typeof lr === 'number' ? this.#tableLr * (lr / this.base) : Number.NaN
  }

  set tableLr(value: number | undefined) {
    this.#tableLr = value
    this.#detached = true
    this.#current = undefined
  }

  /**
   * Rate and weight decay of each group, of dense parameters and then of memory tables: four
   * numbers a group, in one array as long as nothing is set.
   * @throws ERR_VALUE for what was set since the last step
   */
  current(): readonly number[] {
    const { lr } = this
    if (!this.#current || this.#current.lr !== lr) this.#current = { lr, rates: this.#computed() }
    return this.#current.rates
  }

  #computed(): number[] {
    this.#check('lr', this.lr, this.#hyperparameters.weightDecay)
    return this.#groups.flatMap((group) => {
      const decay = this.#decay(group)
      return [this.#rate(group, false), decay, this.#rate(group, true), decay]
    })
  }

  #decay(group: GroupOptions): number {
    return group.weightDecay ?? this.#hyperparameters.weightDecay
  }

  #rate(group: GroupOptions, memory: boolean): number {
    const decay = this.#decay(group)
    if (memory && group.tableLr !== undefined)
      return this.#scaled(`${group.prefix}tableLr`, group.tableLr, group)
    if (memory && this.#tableLr !== undefined) {
      if (this.#detached) return this.#check('tableLr', this.#tableLr, decay)
      return this.#scaled('tableLr', this.#tableLr, group)
    }
    if (group.lr !== undefined) return this.#scaled(`${group.prefix}lr`, group.lr, group)
    return this.#check('lr', group.constant ? this.base : this.lr, decay)
  }

  #scaled(name: string, rate: number, group: GroupOptions): number {
    const decay = this.#decay(group)
    this.#check(name, rate, decay)
    if (group.constant || this.lr === this.base) return rate
    if (this.base === 0) {
      const hint = 'Make the optimizer with the rate that a schedule is to scale.'
      fail('ERR_VALUE', this.#where, 'lr', `stay 0, as ${name} scales with it`, this.lr, hint)
    }
    return this.#check(name, rate * (this.lr / this.base), decay)
  }

  #check(name: string, rate: number, weightDecay: number): number {
    return checkLearningRate(this.#where, name, rate, { ...this.#hyperparameters, weightDecay })
  }
}
