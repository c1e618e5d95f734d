// The checkpoints of a run: the newest at its path, older ones beside it.

import { basename, dirname, extname, join } from 'node:path'
import { isObject, quotePath } from '../describe.js'
import { fail } from '../errors.js'
import { fileError, system, unlessAbsent } from '../files/system.js'
import { loadCheckpointIf, type Stateful, saveCheckpointOf } from './checkpoint.js'
import { filesOf } from './checkpoint-parts.js'
import type { CheckedFit } from './fit-options.js'
import type { Resumable } from './resumable.js'

/** What fit keeps in a checkpoint beside tensors. */
interface RunState {
  step: number
  /** Batches taken. */
  taken: number
  lr: number
}

export class RunCheckpoints {
  readonly #options: CheckedFit
  readonly #parts: { model: Stateful; optimizer: Stateful; data?: Resumable }
  /** The step of the file at the path, as far as this run knows. */
  #saved: number | undefined

  constructor(model: Stateful, options: CheckedFit, data: Resumable | undefined) {
    this.#options = options
    this.#parts = { model, optimizer: options.optimizer, ...(data && { data }) }
  }

  /** Goes on from the checkpoint that the options say. @throws as loadCheckpoint */
  async load(): Promise<{ step: number; taken: number } | undefined> {
    const { resume, checkpoint, optimizer, schedule } = this.#options
    const path = resume === true ? checkpoint?.path : resume
    if (typeof path !== 'string') return undefined
    // what else is wrong with the path, saving there will say
    if (resume === true && !(await system.stat(path).catch(() => undefined))) return undefined
    const run = await loadCheckpointIf(path, this.#parts, (state) => runStateOf(path, state))
    if (!schedule) optimizer.lr = run.lr
    if (path === checkpoint?.path) this.#saved = run.step
    return run
  }

  /** Writes the state after `step`, once. */
  async save(step: number, taken: number): Promise<void> {
    const { checkpoint, optimizer, world } = this.#options
    if (!checkpoint || this.#saved === step) return
    const { path, keep } = checkpoint
    const first = !world || world.rank === 0
    if (first && keep > 1 && this.#saved !== undefined)
      await keepAs(path, olderName(path, this.#saved))
    const fit: RunState = { step, taken, lr: optimizer.lr }
    const parts = { ...this.#parts, state: { fit } }
    await saveCheckpointOf(path, parts, { world, keepOlder: keep > 1 })
    this.#saved = step
    if (first && keep > 1) await removeOld(path, keep - 1)
  }
}

/** @throws ERR_FILE_FORMAT for a state that fit did not write */
function runStateOf(path: string, state: unknown): RunState {
  const run = (isObject(state) && 'fit' in state ? state.fit : undefined) as RunState | undefined
  const counts = [run?.step, run?.taken].every((n) => Number.isSafeInteger(n) && (n as number) >= 0)
  if (run && counts && Number.isFinite(run.lr) && run.lr >= 0) return run
  const hint = 'Load it with loadCheckpoint instead.'
  fail('ERR_FILE_FORMAT', 'fit', 'resume', 'name a checkpoint that fit wrote', path, hint)
}

/** 'run.safetensors' after step 20: 'run-20.safetensors'. */
function olderName(path: string, step: number): string {
  const extension = extname(path)
  return `${path.slice(0, path.length - extension.length)}-${step}${extension}`
}

/** A second name for the file at `path`, which stays: so it is never missing. */
async function keepAs(path: string, older: string): Promise<void> {
  try {
    await remove(older)
    await system.link(path, older).catch(() => system.copyFile(path, older))
  } catch (error) {
    throw fileError({ where: 'fit', path }, `kept as ${quotePath(older)}`, error)
  }
}

async function removeOld(path: string, keep: number): Promise<void> {
  const folder = dirname(path)
  const extension = extname(path)
  const stem = basename(path, extension)
  const steps: number[] = []
  const names = await system.readdir(folder).catch((error) => {
    throw fileError({ where: 'fit', path: folder }, 'searched for older checkpoints', error)
  })
  for (const name of names) {
    const middle = name.slice(stem.length + 1, name.length - extension.length)
    if (
      /^\d+$/.test(middle) &&
      join(folder, name) === join(folder, basename(olderName(path, +middle)))
    )
      steps.push(+middle)
  }
  steps.sort((a, b) => b - a)
  for (const step of steps.slice(keep)) {
    const older = olderName(path, step)
    const parts = await filesOf(older)
    await remove(older)
    for (const name of parts) await remove(join(folder, name))
  }
}

async function remove(path: string): Promise<void> {
  try {
    await unlessAbsent(() => system.unlink(path))
  } catch (error) {
    throw fileError({ where: 'fit', path }, 'removed', error)
  }
}
