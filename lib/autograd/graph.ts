// What is recorded. A tensor that requires a gradient has an edge, where its gradient is collected;
// a node is a recorded call, from the edges of its inputs to those of its results. The graph is
// reachable from its results alone, so that the collector frees one that was dropped.

import { native, type TableHandle } from '../binding.js'
import { captureId } from '../capturing.js'
import type { Tensor } from '../tensor.js'
import type { Hold } from '../tensor-memory.js'

/** What a gradient is added to in the end: a tensor of the user, a parameter or a table. */
export interface Leaf {
  /** What `tensor.grad` gives. */
  grad: Tensor | undefined
  /**
   * The tensor that gradients are added to as they come, made when it is asked for; left out:
   * `grad`, once, at the end.
   */
  into?(): Tensor
  /** Work that adds to `into` was made. */
  added?(): void
  /** The table whose rows these are: its sparse reads are queued there. */
  readonly table?: TableHandle
}

/** Where the gradient of one tensor is collected. */
export class Edge {
  /** The sum of what has come in a backward that runs. */
  pending: Tensor | undefined
  /** Whether `pending` was made for the sum, so that it may be added to. */
  summed = false
  readonly node: Node | undefined
  leaf: Leaf | undefined

  constructor(node: Node | undefined, leaf: Leaf | undefined) {
    this.node = node
    this.leaf = leaf
  }
}

/** A tensor whose memory is there for a backward, whoever disposes it. */
export interface HeldTensor {
  readonly tensor: Tensor
  readonly hold: Hold
}

/** A tensor that a backward reads, as its forward found it. */
export interface SavedTensor extends HeldTensor {
  readonly name: string
  /** Of its memory, at the forward. */
  readonly writes: number
}

/** How a node computes the gradients of its inputs, by name; lib/autograd/record.ts. */
export type NodeBackward = (
  dy: never,
  needs: Record<string, boolean>,
  into: Record<string, Tensor | undefined>,
) => Partial<Record<string, Tensor>>

let count = 0

/** A recorded call. */
export class Node {
  /** Ascends in the order of recording: a node comes after those that it reads from. */
  readonly id = ++count
  readonly capture = captureId()
  readonly where: string
  /** The inputs' names, and the edges of those that require a gradient. */
  names: readonly string[]
  inputs: readonly (Edge | undefined)[]
  /** The edges of the results that have a gradient, by name; a lone result has no name. */
  readonly outputs: Edge[] = []
  outputNames: readonly string[] | undefined
  /** All results. */
  tensors: readonly Tensor[] = []
  saved: readonly SavedTensor[] = []
  /** Undefined once the node was spent by a backward, or freed. */
  backward: NodeBackward | undefined
  release: (() => void) | undefined
  /** How many inputs of nodes that were not spent the results are. */
  consumers = 0
  /** How many of `outputs` belong to tensors that were not disposed. */
  alive = 0
  /** The last backward that visited it. */
  visit = 0

  constructor(where: string, names: readonly string[], inputs: readonly (Edge | undefined)[]) {
    this.where = where
    this.names = names
    this.inputs = inputs
    for (const input of inputs) if (input?.node) input.node.consumers++
  }

  /**
   * Frees what the node holds for its backward, after it or in its place.
   * @returns the nodes that it was the last to read from
   */
  spend(): Node[] {
    const { saved, release, inputs } = this
    this.backward = undefined
    this.release = undefined
    this.saved = []
    this.inputs = []
    this.tensors = []
    for (const { hold } of saved) releaseHold(hold)
    release?.()
    const unread: Node[] = []
    for (const input of inputs) {
      const node = input?.node
      if (node && --node.consumers === 0 && node.backward) unread.push(node)
    }
    return unread
  }
}

/** In `body` what is held can be read, whether it was disposed or not. */
export function lending<T>(held: readonly HeldTensor[], body: () => T): T {
  const lent = held.filter(({ tensor, hold }) => tensor.lendHandle(hold))
  try {
    return body()
  } finally {
    for (const { tensor } of lent) tensor.takeHandleBack()
  }
}

/** Memory is freed when its tensor is disposed and nothing holds it. */
export function releaseHold(hold: Hold): void {
  if (--hold.count === 0 && hold.disposed) native.tensorDispose(hold.handle)
}

/** Disposes the results of a node, but those that the user has to keep. */
export function disposeResults(node: Node, root?: Tensor): void {
  for (const t of node.tensors) if (t !== root && !t.kept && !t.edge?.leaf) t.freeWithGraph()
}

/**
 * A tensor with this edge was disposed. If no other result of its node is left, and no other node
 * reads from it, no backward can come: the node is freed, and so are those that only it needed.
 */
export function edgeDisposed(edge: Edge): void {
  const { node } = edge
  if (!node?.backward || --node.alive > 0 || node.consumers > 0) return
  const dead = [node]
  for (let next = dead.pop(); next; next = dead.pop()) {
    for (const unread of next.spend()) {
      disposeResults(unread)
      if (unread.alive === 0) dead.push(unread)
    }
  }
}
