import type { Child } from './children.js'
import { Module } from './module.js'

/** A module whose children have the names of Hugging Face's Llama: `qProj` is `q_proj`. */
export abstract class LlamaModule extends Module {
  override children(): readonly (readonly [string, Child])[] {
    return super
      .children()
      .map(([name, child]) => [name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), child])
  }
}
