// The seam of differentiation: every differentiable call is built on `recorded`.
//
//   export function siluGate(y: Tensor, a: Tensor, options?: OutOptions): Tensor<'float32'> {
//     const checked = checkOptions('siluGate', options, ['out'])
//     return recorded(
//       'siluGate',
//       { y, a },                               // inputs that have a gradient, by argument name
//       checked.out,                            // what the caller gave as `out`
//       () => { … the call as it is … },
//       () => ({
//         saved: { y, a },                        // what backward reads, by argument name
//         backward: (dz) => {
//           const { dy, da } = siluGateBackward(dz, y, a)
//           return { y: dy, a: da }
//         },
//       }),
//     )
//   }
//
// `forward` runs without recording, so it may be made of recorded operations; it returns new
// tensors, none of the inputs. If no input requires a gradient, or inside of noGrad(), that is all
// that happens: `derive` is not called. Else `derive` gets the result (softmax saves it) and says
// how a backward comes about:
//
// - `saved`: every tensor that `backward` reads, by the name that a message gives it; undefined is
//   left out. Their memory is held until the backward, whatever the caller disposes, and they can
//   be read inside of `backward` alone. One that is written meanwhile makes the backward
//   ERR_CONTEXT. Temporaries of the forward may be saved and disposed at once. What is not saved is
//   not held.
// - `outputs`: which results have a gradient, where the result is an object of several: ['y'] of
//   { y, lse }. `backward` then gets their gradients by name, { y: dy }; one that no gradient came
//   to is undefined, but never all of them. A lone result needs no `outputs`, and gets a tensor.
// - `backward(dy, needs, into)`: gradients by the inputs' names, float32 whatever the input's
//   dtype, in the input's shape. Computed without recording, in one batch with all other gradients.
//   `needs[name]` says which are asked for; others are dropped, so leave out their work.
//   `into[name]` is a tensor that this gradient may be added to in place (a parameter's gradient, a
//   tied table's dense part): where the native call can add, pass it, and return that very tensor;
//   a new one is added to it. Left out or undefined: zero, or dealt with, as a read that was queued
//   at a table (`tableOf`). It may return dy itself, or a view of it; it never writes to dy or to
//   what was saved.
// - `release`: called once, when the graph is spent or freed: for contexts.
//
// Inputs without a gradient (token numbers, masks) are no `inputs`; save them if backward reads
// them. Modules with parameters of their own record with `record`, whether x requires a gradient or
// not (lib/autograd/apply.ts). …Backward operations, forward, backward and infer never record.

import { native, type TableHandle } from '../binding.js'
import { MemoryLayersError } from '../errors.js'
import type { Tensor } from '../tensor.js'
import { TensorMemory } from '../tensor-memory.js'
import { Edge, Node, type NodeBackward, releaseHold, type SavedTensor } from './graph.js'
import { isRecording, unrecorded } from './recording.js'

/** Inputs of a recorded call, by argument name. */
export type Inputs<Name extends string> = { readonly [N in Name]: Tensor | undefined }

/** A tensor, or several by name beside which there may be anything else. */
export type Result = Tensor | object

/** Of the gradients of a result: of a lone tensor, or by name. */
export type ResultGradient<R extends Result> = R extends Tensor
  ? Tensor
  : { readonly [Name in keyof R]?: Tensor }

/** How the gradients of a call's inputs come from those of its result. */
export interface Derivative<Name extends string, R extends Result> {
  readonly saved: Readonly<Record<string, Tensor | undefined>>
  readonly outputs?: readonly (keyof R & string)[]
  backward(
    dy: ResultGradient<R>,
    needs: Readonly<Record<Name, boolean>>,
    into: { readonly [N in Name]: Tensor | undefined },
  ): { readonly [N in Name]?: Tensor | undefined }
  release?(): void
}

/** Runs `forward`, and records it if an input requires a gradient: see the head of this file. */
export function recorded<Name extends string, R extends Result>(
  where: string,
  inputs: Inputs<Name>,
  out: unknown,
  forward: () => R,
  derive: (result: R) => Derivative<Name, R>,
): R {
  if (!isRecording() || !requireGrad(inputs)) return forward()
  if (out !== undefined) throw outWhileRecording(where)
  const result = unrecorded(forward)
  record(where, inputs, result, derive(result))
  return result
}

/** Records a call that has run: the result requires a gradient from now on. */
export function record<Name extends string, R extends Result>(
  where: string,
  inputs: Inputs<Name>,
  result: R,
  { saved, outputs, backward, release }: Derivative<Name, R>,
): void {
  const results = TensorMemory.isTensor(result)
    ? [result as Tensor]
    : (Object.values(result).filter(TensorMemory.isTensor) as Tensor[])
  const kept: SavedTensor[] = []
  try {
    for (const name in saved) {
      const tensor = saved[name]
      if (tensor) kept.push(saveTensor(where, name, tensor))
    }
  } catch (error) {
    for (const { hold } of kept) releaseHold(hold)
    for (const t of results) t.dispose()
    release?.()
    throw error
  }
  const names: Name[] = []
  const edges: (Edge | undefined)[] = []
  for (const name in inputs) {
    names.push(name)
    edges.push(inputs[name]?.edge)
  }
  const node = new Node(where, names, edges)
  node.saved = kept
  node.backward = backward as unknown as NodeBackward
  node.release = release
  node.tensors = results
  if (TensorMemory.isTensor(result)) addOutput(node, result)
  else {
    node.outputNames = outputs as readonly string[]
    for (const name of outputs!) addOutput(node, result[name] as TensorMemory)
  }
}

function addOutput(node: Node, tensor: TensorMemory): void {
  tensor.edge = new Edge(node, undefined)
  node.outputs.push(tensor.edge)
  node.alive++
}

function saveTensor(where: string, name: string, tensor: Tensor): SavedTensor {
  const writes = native.tensorWrites(tensor.handle(where, name))
  return { name, tensor, hold: tensor.hold(where, name), writes }
}

function requireGrad(inputs: Readonly<Record<string, Tensor | undefined>>): boolean {
  for (const name in inputs) if (TensorMemory.hasEdge(inputs[name])) return true
  return false
}

/** The table whose rows these are, if it is trained: its sparse gradient is queued there. */
export function tableOf(tensor: Tensor): TableHandle | undefined {
  return tensor.edge?.leaf?.table
}

function outWhileRecording(where: string): MemoryLayersError {
  const sentence = `${where}: "out" can't be given while the call is recorded for a backward`
  const hint = 'Leave it out, or run the call inside of noGrad().'
  return new MemoryLayersError('ERR_UNSUPPORTED', `${sentence}.\n  ${hint}`)
}
