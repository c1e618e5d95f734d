import { isInstance } from '../describe.js'
import { checkDevice, type Device } from '../device.js'
import { inspect } from '../inspect.js'
import { TableLayer } from '../layer.js'
import { checkInteger, checkOptions } from '../options.js'
import { type Parameter, stateEntries } from '../parameter.js'
import { loadStateDict, type StateDict, stateDictOf } from '../state-dict.js'
import type { ValueTable } from '../value-table.js'
import { type Child, childrenIn, isLayer, isParameter, once, parametersOf } from './children.js'
import { describeModule } from './module-description.js'

/** Options of {@link Module}. */
export interface ModuleOptions {
  /**
   * Fixes the seeds of what is made from here on without a seed: give it in the outermost module.
   * Left out, the device's counter goes on.
   */
  seed?: number
}

/**
 * A model or a part of one, written as its forward alone. Its children are its own properties:
 * modules, layers, tables, and arrays and records of them; their names are the paths to them.
 *
 * ```ts
 * import { AdamW, MemoryLayer, ops, openDevice, type Tensor } from 'memory-layers'
 * import { Module, RmsNorm } from 'memory-layers/nn'
 *
 * class Block extends Module {
 *   norm = new RmsNorm(this.device, { dim: 64 })
 *   memory = new MemoryLayer(this.device, { inputDim: 64, nKeys: 32, knn: 8, keyDim: 64 })
 *   apply(x: Tensor) {
 *     return ops.add(x, this.memory.apply(this.norm.apply(x)))
 *   }
 * }
 * const block = new Block(openDevice(), { seed: 1 })
 * const optimizer = new AdamW(block.parameters(), { lr: 1e-3 })
 * ```
 */
export abstract class Module {
  /** Where its parameters are. */
  readonly device: Device
  #training = true
  #visited = false

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options?: ModuleOptions) {
    checkDevice('Module', device)
    const { seed } = checkOptions('Module', options, ['seed'])
    if (seed !== undefined) device.seeds.restart(checkInteger('Module', 'seed', seed, 0))
    this.device = device
  }

  /** Whether it trains, as it does from the start: {@link Dropout} drops then. */
  get training(): boolean {
    return this.#training
  }

  /** Name and child, in the order of the state dict: all that own properties lead to. */
  children(): readonly (readonly [string, Child])[] {
    return Object.entries(this).flatMap(([name, value]) => childrenIn(name, value))
  }

  /** The parameters of all children, named by path; a shared one once, where it comes first. */
  parameters(): readonly Parameter[] {
    return once(this.#eachChild(([name, child]) => parametersOf(name, child)))
  }

  /** The live tensors by path: `blocks.0.memory.keys`. */
  stateDict(): StateDict {
    return stateDictOf(this.parameters())
  }

  /**
   * Copies tensors in, all or nothing. A table that belongs to none of the children, but is shared
   * with some of them, may be left out.
   * @throws ERR_STATE_DICT
   */
  loadStateDict(state: StateDict): void {
    const parameters = this.parameters()
    const foreign = new Set(this.#foreignTables())
    const optional = parameters.filter((p) => p.kind === 'table' && foreign.has(p.table))
    const entries = stateEntries(parameters, { optional: optional.map(({ name }) => name) })
    loadStateDict(`${this.constructor.name}.loadStateDict`, entries, state)
  }

  /** From now on it and the modules in it train: dropout drops. */
  train(): this {
    return this.#setTraining(true)
  }

  /** From now on it and the modules in it don't train: nothing is dropped. */
  eval(): this {
    return this.#setTraining(false)
  }

  #setTraining(training: boolean): this {
    this.#training = training
    this.#eachChild(([, child]) => {
      if (isInstance(child, Module)) child.#setTraining(training)
      return []
    })
    return this
  }

  /** Numbers in all parameters; shared ones count once. */
  countParameters(): number {
    return this.parameters().reduce((total, { value }) => total + value.size, 0)
  }

  /**
   * A table: of each parameter its path, kind, shape, numbers, bytes and multiply-adds a token. A
   * parameter that stood before is `shared`, with multiply-adds of its own. The products of
   * attention, which grow with the context, are not in it.
   */
  describe(): string {
    return describeModule(this.constructor.name, this.leaves())
  }

  /** @internal Layers, tables and parameters by path, those of children of children too. */
  leaves(): [string, Exclude<Child, Module>][] {
    return this.#eachChild(([name, child]) =>
      isInstance(child, Module)
        ? child.leaves().map(([path, leaf]): [string, Child] => [`${name}.${path}`, leaf])
        : [[name, child]],
    )
  }

  /** Frees the parameters of all children. A table that is shared with it stays. */
  dispose(): void {
    this.#eachChild(([, child]) => {
      if (!isParameter(child)) child.dispose()
      else if (child.kind === 'table') child.table.dispose()
      else for (const tensor of [child.value, child.grad]) tensor.dispose()
      return []
    })
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    const names = this.children().map(([name]) => name)
    const rest = names.length > 6 ? `, …, ${names.length} in all` : ''
    return `${this.constructor.name} ${names.slice(0, 6).join(', ')}${rest}`
  }

  /** Tables that layers read and none of the children owns. */
  #foreignTables(): ValueTable[] {
    const leaves = this.leaves().map(([, leaf]) => leaf)
    const shared = leaves.flatMap((leaf) => (leaf instanceof TableLayer ? leaf.sharedTables() : []))
    const owned = new Set<unknown>(leaves)
    for (const leaf of leaves) {
      if (!isLayer(leaf)) continue
      const others: readonly unknown[] = leaf instanceof TableLayer ? leaf.sharedTables() : []
      for (const p of leaf.parameters())
        if (p.kind === 'table' && !others.includes(p.table)) owned.add(p.table)
    }
    return shared.filter((table) => !owned.has(table))
  }

  /** What `f` gives for each child. A module that leads back to itself is left out there. */
  #eachChild<T>(f: (child: readonly [string, Child]) => T[]): T[] {
    if (this.#visited) return []
    this.#visited = true
    try {
      return this.children().flatMap(f)
    } finally {
      this.#visited = false
    }
  }
}
