// What has a state dict, and the live tensors in it.

import { isObject } from '../describe.js'
import { collectTensors } from '../made-tensors.js'
import type { StateDict } from '../state-dict.js'
import type { Tensor } from '../tensor.js'

/** What has tensors to keep: a model, a layer, an optimizer. */
export interface Stateful {
  /** The live tensors by name. */
  stateDict(): StateDict
  /** Copies tensors in, all or nothing. */
  loadStateDict(state: StateDict): void
}

/** The live tensors by the names that they have in a file; those made for it are disposed. */
export function liveTensors(parts: Readonly<Record<string, unknown>>): StateDict {
  const live: StateDict = {}
  const made: Tensor[] = []
  const restore = collectTensors(made)
  try {
    for (const [part, object] of Object.entries(parts))
      if (isStateful(object))
        for (const [key, tensor] of Object.entries(object.stateDict()))
          live[`${part}.${key}`] = tensor
    return live
  } finally {
    restore()
    for (const tensor of made) tensor.dispose()
  }
}

export function firstTensor(object: Stateful): Tensor[] {
  const made: Tensor[] = []
  const restore = collectTensors(made)
  try {
    const [tensor] = Object.values(object.stateDict())
    return tensor ? [tensor] : []
  } finally {
    restore()
    for (const tensor of made) tensor.dispose()
  }
}

export function isStateful(object: unknown): object is Stateful {
  const { stateDict, loadStateDict } = (isObject(object) ? object : {}) as Partial<Stateful>
  return typeof stateDict === 'function' && typeof loadStateDict === 'function'
}
