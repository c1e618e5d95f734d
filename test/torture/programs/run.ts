// Runs a program: steps on a device and in the interpreter, and then a read of everything.

import type { Device } from '../../../lib/index.js'
import { Difference } from './difference.js'
import { disposeLayers, makeLayers } from './layers.js'
import { bagSteps } from './steps/bags.js'
import { save } from './steps/files.js'
import { operationSteps } from './steps/operations.js'
import { tensorSteps } from './steps/tensors.js'
import { type LayerStep, trainingSteps } from './steps/training.js'
import { Picks, type Profile, World } from './world.js'

/** A step by name, and the numbers that it chooses by. */
export interface StepCall {
  step: string
  picks: readonly number[]
}

/** Steps for one flow, and the sizes of its objects. */
export interface Program {
  profile: Profile
  steps: readonly StepCall[]
}

/** The steps by name; `folder` is for files. */
function allSteps(folder: string): Record<string, LayerStep> {
  return {
    ...tensorSteps,
    ...operationSteps,
    ...bagSteps,
    ...trainingSteps,
    save: (world, picks) => save(world, picks, folder),
  }
}

export const stepNames = Object.keys(allSteps(''))

/** Throws a Difference that says at which step. Returns how many numbers were compared. */
export async function runProgram(
  device: Device,
  other: Device,
  program: Program,
  folder: string,
  alone: boolean,
): Promise<number> {
  const world = new World(device, other, program.profile, alone)
  const layers = await makeLayers(world, new Picks([program.profile.seed]))
  const steps = allSteps(folder)
  let at = 'its layers'
  try {
    for (const [i, { step, picks }] of program.steps.entries()) {
      at = `step ${i}, ${step}`
      await steps[step]!(world, new Picks(picks), layers)
    }
    at = 'the end'
    for (const pair of world.tensors) void world.read('a tensor at the end', pair)
    for (const { name, value, grad } of layers.dense) {
      void world.read(name, value)
      void world.read(`gradient of ${name}`, grad)
    }
    for (const which of [0, 1]) {
      await steps['readTable']!(world, new Picks([which]), layers)
      await steps['readTableGradient']!(world, new Picks([which]), layers)
    }
    await world.settle()
  } catch (error) {
    await world.settle().catch(() => {})
    throw new Difference(
      `at ${at}: ${error instanceof Difference ? error.message : describe(error)}`,
    )
  } finally {
    for (const { real } of world.tensors) real.dispose()
    disposeLayers(layers)
    await dropFaults(device)
  }
  return world.compared
}

/** Faults of what was disposed unread must not meet the next program. */
async function dropFaults(device: Device): Promise<void> {
  while (await device.synchronize().catch((error: unknown) => error));
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
