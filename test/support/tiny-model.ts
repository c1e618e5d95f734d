import {
  type Device,
  MemoryLayer,
  ops,
  type Parameter,
  type StateDict,
  type Tensor,
} from '../../lib/index.js'
import { CrossEntropy, Embedding, Linear } from '../../lib/nn/index.js'

export const tinyVocab = 11

/** An embedding, a memory layer beside it, and a head: the smallest model that `fit` trains. */
export class TinyModel {
  readonly device: Device
  readonly embedding: Embedding
  readonly memory: MemoryLayer
  readonly head: Linear
  readonly #crossEntropy: CrossEntropy
  /** Calls of loss so far. */
  calls = 0
  /** What a loss is added to at a call: to make it NaN. */
  poison: (call: number) => number = () => 0

  constructor(device: Device, seed = 1) {
    this.device = device
    this.embedding = new Embedding(device, { count: tinyVocab, dim: 8, seed })
    this.memory = new MemoryLayer(device, {
      inputDim: 8,
      heads: 2,
      knn: 3,
      nKeys: 6,
      keyDim: 8,
      seed,
    })
    this.head = new Linear(device, { inputDim: 8, outputDim: tinyVocab, seed })
    this.#crossEntropy = new CrossEntropy(device)
  }

  loss(tokens: Tensor, targets: Tensor): Tensor {
    const x = this.embedding.apply(tokens)
    const h = ops.add(x, this.memory.apply(x))
    const logits = this.head.apply(h)
    const rows = logits.reshape([tokens.size, tinyVocab])
    using flat = targets.reshape([targets.size])
    const loss = this.#crossEntropy.apply(rows, flat)
    using added = this.device.tensor([this.poison(++this.calls)])
    return ops.add(loss, added)
  }

  parameters(): readonly Parameter[] {
    return [this.embedding, this.memory, this.head].flatMap((layer) => [...layer.parameters()])
  }

  dispose(): void {
    for (const layer of [this.embedding, this.memory, this.head]) layer.dispose()
  }

  stateDict(): StateDict {
    const dicts = { embedding: this.embedding, memory: this.memory, head: this.head }
    return Object.fromEntries(
      Object.entries(dicts).flatMap(([part, layer]) =>
        Object.entries(layer.stateDict()).map(([name, t]) => [`${part}.${name}`, t] as const),
      ),
    )
  }

  loadStateDict(state: StateDict): void {
    const part = (name: string) =>
      Object.fromEntries(
        Object.entries(state).flatMap(([key, t]) =>
          key.startsWith(`${name}.`) ? [[key.slice(name.length + 1), t] as const] : [],
        ),
      )
    this.embedding.loadStateDict(part('embedding'))
    this.memory.loadStateDict(part('memory'))
    this.head.loadStateDict(part('head'))
  }
}
