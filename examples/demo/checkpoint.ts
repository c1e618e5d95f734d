// Both models and what their answers mean, in one safetensors file.

import { type Device, readSafetensors, saveSafetensors } from '../../lib/index.js'
import { type Kind, Model } from './model.js'

export interface Checkpoint {
  models: Record<Kind, Model>
  countries: string[]
  facts: number
  seed: number
}

export async function saveCheckpoint(path: string, c: Checkpoint): Promise<void> {
  const metadata = {
    format: 'memory-layers demo 1',
    countries: c.countries.join(','),
    facts: String(c.facts),
    seed: String(c.seed),
  }
  await saveSafetensors(
    path,
    { ...c.models.memory.stateDict(), ...c.models.dense.stateDict() },
    { metadata },
  )
}

export async function loadCheckpoint(path: string, device: Device): Promise<Checkpoint> {
  const { tensors, metadata } = await readSafetensors(path, { device })
  const countries = (metadata['countries'] ?? '').split(',')
  const seed = Number(metadata['seed'])
  const models = {
    memory: new Model(device, 'memory', countries.length, seed),
    dense: new Model(device, 'dense', countries.length, seed),
  }
  for (const model of Object.values(models)) {
    const own = Object.fromEntries(
      Object.entries(tensors).filter(([name]) => name.startsWith(model.kind)),
    )
    model.loadStateDict(own)
  }
  for (const t of Object.values(tensors)) t.dispose()
  return { models, countries, facts: Number(metadata['facts']), seed }
}
