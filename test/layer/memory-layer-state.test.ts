import { expect, test } from 'vitest'
import { MemoryLayer, openDevice, ValueTable } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { small, valuesOf } from '../support/layers.js'

const gated = { ...small, outputGate: true }

onEveryDevice((device) => {
  test('a state dict has the published names', () => {
    const state = new MemoryLayer(device, gated).stateDict()
    expect(Object.keys(state).sort()).toEqual([
      'gating.bias',
      'gating.weight',
      'keys',
      'query_proj.query_mlps.0.bias',
      'query_proj.query_mlps.0.weight',
      'swilu_projection.bias',
      'swilu_projection.weight',
      'value_proj.bias',
      'value_proj.weight',
      'values.weight',
    ])
  })

  test('a state dict that does not fit loads nothing', async () => {
    const { keys, ...rest } = new MemoryLayer(device, gated).stateDict()
    const state = { ...rest, keys: keys! }
    const layer = new MemoryLayer(device, { ...gated, seed: 9 })
    const before = await valuesOf(layer.parameters())
    const load = (wrong: object) => () => layer.loadStateDict({ ...state, ...wrong })

    const missing = await errorOf('ERR_STATE_DICT', () => layer.loadStateDict(rest))
    expect(missing).toContain('"keys"')
    expect(missing).toContain('[2, 2, 6, 4]')
    expect(await errorOf('ERR_STATE_DICT', load({ extra: keys }))).toContain('"extra"')
    await errorOf('ERR_STATE_DICT', load({ 'values.weight': device.zeros([35, 12]) }))
    await errorOf('ERR_STATE_DICT', load({ 'values.weight': device.zeros([36, 12], 'int32') }))
    await errorOf('ERR_STATE_DICT', load({ 'gating.bias': 1 }))

    expect(await valuesOf(layer.parameters())).toEqual(before)
  })

  test('a state dict of the same sizes loads, in other shapes and on other devices', async () => {
    const layer = new MemoryLayer(device, gated)
    const wanted = await valuesOf(layer.parameters())
    const state = layer.stateDict()
    const reshaped = { ...state, keys: state['keys']!.reshape([24, 4]) }
    for (const [other, dict] of [
      [device, reshaped],
      [openDevice('cpu'), state],
    ] as const) {
      const loaded = new MemoryLayer(other, { ...gated, seed: 9 })
      loaded.loadStateDict(dict)
      expect(await valuesOf(loaded.parameters())).toEqual(wanted)
    }
  })

  test('a state dict for a table that was disposed loads nothing', async () => {
    const table = new ValueTable(device, { slots: 36, dim: 12 })
    const layer = new MemoryLayer(device, { ...small, values: table })
    const dense = layer.parameters().filter((p) => p.kind === 'dense')
    const before = await valuesOf(dense)
    const state = new MemoryLayer(device, { ...small, seed: 9 }).stateDict()
    table.dispose()
    const message = await errorOf('ERR_DISPOSED', () => layer.loadStateDict(state))
    expect(message).toMatch(/^MemoryLayer\.loadStateDict: "values\.weight"/)
    expect(await valuesOf(dense)).toEqual(before)
  })
})
