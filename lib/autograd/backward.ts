// tensor.backward(): the nodes that a tensor was computed by, from the last recorded to the first.

import { atomically, whenCommitted } from '../atomically.js'
import { native } from '../binding.js'
import { checkCaptureId } from '../capturing.js'
import { fail } from '../errors.js'
import { checkUnwritten, contextError } from '../reads.js'
import { formatShape } from '../shape.js'
import type { Tensor } from '../tensor.js'
import { disposeResults, type Edge, type Leaf, lending, type Node } from './graph.js'
import { unrecorded } from './recording.js'

const where = 'Tensor.backward'
const addKind = 0 // of native/ops/arithmetic.h
let visits = 0

/** All or nothing: after an error no gradient has changed, and the graph is not spent. */
export function runBackward(root: Tensor, dy: Tensor | undefined): void {
  const { edge } = root
  if (!edge) {
    const hint = 'Compute it outside of noGrad(), from parameters or after x.requireGrad().'
    fail('ERR_CONTEXT', where, 'this', 'require a gradient', 'a tensor that does not', hint)
  }
  checkGradient(root, dy)
  const nodes = reachableNodes(edge)
  for (const node of nodes) checkSaved(node)
  const pass = new Pass()
  try {
    atomically(root.device, () =>
      unrecorded(() => {
        pass.collect(edge, dy ? dy.to('float32') : ones(root))
        for (const node of nodes) pass.run(node)
        pass.finish()
      }),
    )
  } finally {
    pass.clear()
  }
  whenCommitted(() => {
    pass.publish()
    for (const node of nodes) {
      disposeResults(node, root)
      node.spend()
    }
  })
}

function checkGradient(root: Tensor, dy: Tensor | undefined): void {
  if (!dy) {
    if (root.size === 1) return
    const hint = 'Pass the gradient of this tensor: backward(dy).'
    fail('ERR_SHAPE', where, 'this', 'have one element', formatShape(root.shape), hint)
  }
  const [wanted, found] = [formatShape(root.shape), formatShape(dy.shape)]
  if (found !== wanted) fail('ERR_SHAPE', where, 'dy', `have shape ${wanted}`, found)
  if (dy.dtype !== 'float32') fail('ERR_DTYPE', where, 'dy', 'be float32', dy.dtype)
  if (dy.requiresGrad) {
    const hint = 'Gradients of gradients are not computed.'
    fail('ERR_UNSUPPORTED', where, 'dy', 'require no gradient', 'a tensor that does', hint)
  }
}

/** From the last recorded to the first: reverse topological order. @throws ERR_CONTEXT if spent */
function reachableNodes({ node: last }: Edge): Node[] {
  const visit = ++visits
  const nodes: Node[] = []
  const open = last ? [last] : []
  for (let node = open.pop(); node; node = open.pop()) {
    if (node.visit === visit) continue
    node.visit = visit
    if (!node.backward) throw contextError(where, `the graph was spent or freed at "${node.where}"`)
    checkCaptureId(where, node.capture)
    nodes.push(node)
    for (const input of node.inputs) if (input?.node) open.push(input.node)
  }
  return nodes.sort((a, b) => b.id - a.id)
}

function checkSaved(node: Node): void {
  for (const { name, hold, writes } of node.saved)
    checkUnwritten(where, `"${name}" of ${node.where}`, hold.handle, writes)
}

function ones({ device, shape }: Tensor): Tensor {
  const dy = device.empty(shape)
  native.tensorFill(dy.handle(where, 'dy'), 1)
  return dy
}

/** sum += x, or x + y into a new sum. */
function add(sum: Tensor, x: Tensor, y: Tensor): Tensor {
  const [handleX, handleY] = [x.handle(where, 'grad'), y.handle(where, 'grad')]
  const handle = sum.handle(where, 'grad')
  native.tensorDispose(native.arithmetic(where, handle, handleX, 0, handleY, 0, addKind, 1, 1))
  return sum
}

/** The gradients of one backward. */
class Pass {
  /** Edges that have a gradient pending. */
  readonly #touched: Edge[] = []
  /** In how many edges a gradient is pending: disposed with the last. */
  readonly #uses = new Map<Tensor, number>()
  readonly #made: { leaf: Leaf; grad: Tensor }[] = []
  readonly #added = new Set<Leaf>()

  /** Adds to the gradient of an edge. */
  collect(edge: Edge, gradient: Tensor): void {
    const into = edge.leaf?.into?.()
    if (into) {
      if (into !== gradient) add(into, into, gradient)
      this.#added.add(edge.leaf!)
      if (into !== gradient) this.#drop(gradient)
      return
    }
    const { pending } = edge
    if (!pending) {
      this.#touched.push(edge)
      edge.pending = this.#use(gradient)
    } else if (edge.summed) {
      add(pending, pending, gradient)
      this.#drop(gradient)
    } else {
      edge.pending = this.#use(add(gradient.device.empty(gradient.shape), pending, gradient))
      edge.summed = true
      this.#release(pending)
      this.#drop(gradient)
    }
  }

  /** The gradients of a node's inputs. */
  run(node: Node): void {
    const { outputs, outputNames, names, inputs } = node
    const gradients = outputs.map((o) => o.pending)
    if (gradients.every((g) => g === undefined)) return
    const dy = outputNames
      ? Object.fromEntries(outputNames.map((name, i) => [name, gradients[i]]))
      : gradients[0]
    const needs: Record<string, boolean> = {}
    const into: Record<string, Tensor | undefined> = {}
    for (const [i, name] of names.entries()) {
      needs[name] = inputs[i] !== undefined
      const leaf = inputs[i]?.leaf
      if (leaf?.into)
        Object.defineProperty(into, name, { get: () => leaf.into!(), enumerable: true })
    }
    const results = lending(node.saved, () => node.backward!(dy as never, needs, into))
    for (const [i, name] of names.entries()) {
      const gradient = results[name]
      if (!gradient) continue
      if (inputs[i]) this.collect(inputs[i], gradient)
      else this.#drop(gradient)
    }
    for (const [i, output] of outputs.entries()) {
      const gradient = gradients[i]
      if (!gradient) continue
      if (output.leaf) this.#addToLeaf(output.leaf, gradient)
      output.pending = undefined
      output.summed = false
      this.#release(gradient)
    }
  }

  /** The gradients of the leaves that the user made. */
  finish(): void {
    for (const { leaf, pending } of this.#touched) {
      if (!leaf || !pending) continue
      this.#addToLeaf(leaf, pending)
      this.#release(pending)
    }
    for (const leaf of this.#added) leaf.added?.()
  }

  /** Tensors have their new gradients. */
  publish(): void {
    for (const { leaf, grad } of this.#made) leaf.grad = grad
  }

  clear(): void {
    for (const edge of this.#touched) {
      edge.pending = undefined
      edge.summed = false
    }
  }

  #addToLeaf(leaf: Leaf, gradient: Tensor): void {
    const { grad } = leaf
    if (grad && !grad.disposed) {
      add(grad, grad, gradient)
      return
    }
    const copy = gradient.to('float32') // what came may be a view of another gradient
    copy.kept = true
    this.#made.push({ leaf, grad: copy })
  }

  #use(gradient: Tensor): Tensor {
    this.#uses.set(gradient, (this.#uses.get(gradient) ?? 0) + 1)
    return gradient
  }

  #release(gradient: Tensor): void {
    const uses = this.#uses.get(gradient)! - 1
    if (uses > 0) this.#uses.set(gradient, uses)
    else {
      this.#uses.delete(gradient)
      gradient.dispose()
    }
  }

  /** Disposes a gradient that is pending nowhere. */
  #drop(gradient: Tensor): void {
    if (!this.#uses.has(gradient)) gradient.dispose()
  }
}
