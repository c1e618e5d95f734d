// Steps that save: a file holds what its tensors held at the call, or is not there.

import { existsSync, rmSync } from 'node:fs'
import { loadSafetensors, saveSafetensors, type Tensor } from '../../../../lib/index.js'
import { Difference } from '../difference.js'
import type { Pair, Picks, World } from '../world.js'

let files = 0

export async function save(world: World, picks: Picks, folder: string): Promise<void> {
  const count = Math.min(3, world.tensors.length)
  if (count === 0) return
  const chosen: Record<string, Pair> = {}
  for (let i = 0; i < count; i++) chosen[`t${i}`] = picks.of(world.tensors)
  const held = Object.entries(chosen).map(([name, { model }]) => {
    const { samples, faults, dtype } = model
    return { name, samples, faults, dtype }
  })
  const faults = held.reduce((bits, h) => bits | h.faults, 0)
  const path = `${folder}/${files++}.safetensors`
  const tensors: Record<string, Tensor> = {}
  for (const [name, { real }] of Object.entries(chosen)) tensors[name] = real
  const saved = saveSafetensors(path, tensors)
  const done = await world.expectFaults(
    'saveSafetensors',
    saved.then(() => true),
    faults,
  )
  if (!done) {
    if (existsSync(path)) throw new Difference('a save that was rejected has left a file')
    return
  }
  const loaded = await loadSafetensors(path, { device: world.device })
  for (const { name, samples, dtype } of held) {
    world.compare(`${name} of a file`, await loaded[name]!.data(), samples, dtype)
    loaded[name]!.dispose()
  }
  rmSync(path)
}
