import { checkFunction, checkSynchronous } from './autograd/recording.js'
import { native } from './binding.js'
import { Capturing, type HostCounter, refuseInCapture, setCapturing } from './capturing.js'
import type { Device } from './device.js'
import { MemoryLayersError } from './errors.js'
import { inspect } from './inspect.js'
import { collectTensors } from './made-tensors.js'
import type { Tensor } from './tensor.js'
import type { TensorMemory } from './tensor-memory.js'

/** What a capture is made of, once its function has returned. */
interface Captured<T> {
  readonly state: Capturing
  readonly result: T
  readonly counters: readonly [HostCounter, number][]
}

/**
 * Work that was captured once and is replayed: for instance a whole training step. Made by
 * {@link Device.capture}.
 *
 * ```ts
 * import { AdamW, MemoryLayer, openDevice } from 'memory-layers'
 *
 * const device = openDevice()
 * const layer = new MemoryLayer(device, { inputDim: 64, knn: 8, nKeys: 32, keyDim: 64 })
 * const optimizer = new AdamW(layer.parameters(), { lr: 1e-3 })
 * const x = device.normal([16, 64], { seed: 1 })
 * const step = device.capture(() => {
 *   const { output, context } = layer.forward(x)
 *   layer.backward(context, output)
 *   optimizer.step()
 *   optimizer.zeroGrad()
 *   return output
 * })
 * for (let i = 0; i < 100; i++) {
 *   x.write(new Float32Array(16 * 64).fill(i / 100)) // the next batch
 *   optimizer.lr = 1e-3 / (i + 1)
 *   step.replay()
 * }
 * step.dispose()
 * ```
 * @typeParam T what the captured function returned
 */
export class Capture<T = unknown> {
  /** Whose work it is. */
  readonly device: Device
  #captured: Captured<T> | undefined
  /** Made in it and not disposed, and used in it but made outside. */
  readonly #made: readonly Tensor[]
  readonly #used: readonly TensorMemory[]
  readonly #numbers: Uint8Array
  readonly #writes: readonly (() => void)[]

  /** @internal Captures are made by Device.capture(). */
  constructor(captured: Captured<T>) {
    const { device, made, used, numbers } = captured.state
    this.device = device
    this.#captured = captured
    this.#made = [...made].filter((t) => !t.disposed)
    this.#used = [...used].filter((t) => !made.has(t as Tensor))
    this.#numbers = new Uint8Array(numbers.reduce((sum, { bytes }) => sum + bytes, 0))
    let at = 0
    this.#writes = numbers.map(({ bytes, write }) => {
      const view = new DataView(this.#numbers.buffer, at, bytes)
      at += bytes
      return () => write(view)
    })
  }

  /** Whether the capture was disposed. */
  get disposed(): boolean {
    return this.#captured === undefined
  }

  /**
   * Enqueues all of the captured work anew, in one call: on a GPU as one launch. It reads its
   * inputs, the optimizers' learning rates and the dropouts' counters as they are now. What it
   * makes holds the new values; a fault in it voids what it would void outside of a capture.
   * @returns what the captured function returned: the same tensors at each call
   * @throws ERR_DISPOSED if the capture was disposed, or a tensor that it uses; ERR_UNSUPPORTED
   * inside of a capture, and if a value table has reads that the optimizer has not seen; ERR_VALUE
   * for a learning rate that the optimizer can't take; ERR_DEVICE if the device was closed
   */
  replay(): T {
    const where = 'Capture.replay'
    const captured = this.#captured
    if (!captured) {
      const hint = 'Use it before dispose(), or make another.'
      throw new MemoryLayersError('ERR_DISPOSED', `${where}: "this" was disposed.\n  ${hint}`)
    }
    refuseInCapture(where, undefined, 'it is a capture itself', 'Call what it captures.')
    for (const t of this.#used) t.handle(where, 'what it uses')
    for (const write of this.#writes) write()
    native.captureReplay(captured.state.handle, this.#numbers)
    for (const [counter, calls] of captured.counters) counter.value += calls
    return captured.result
  }

  /** Frees its memory: the tensors that were made in it are disposed. */
  dispose(): void {
    const captured = this.#captured
    if (!captured) return
    this.#captured = undefined
    for (const t of this.#made) t.dispose()
    native.captureDispose(captured.state.handle)
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal */
  [inspect](): string {
    return `Capture on ${this.device.name}${this.disposed ? ', disposed' : ''}`
  }
}

/** Captures what `fn` does on the device: see Device.capture(). */
export function capture<T>(device: Device, fn: () => T): Capture<T> {
  const where = 'device.capture'
  checkFunction(where, fn)
  refuseInCapture(where, undefined, 'it is a capture itself', 'Make them one after the other.')
  const state = new Capturing(device, native.captureBegin(device.handle))
  const collected: Tensor[] = []
  const restore = collectTensors(collected)
  setCapturing(state)
  let finished = false
  try {
    const result = fn()
    if (!state.refused) checkResult(where, result)
    if (state.refused) throw state.refused
    native.captureFinish(state.handle)
    finished = true
    const made = new Capture({ state, result, counters: state.restoreCounters() })
    state.made.clear()
    state.used.clear()
    return made
  } finally {
    setCapturing(undefined)
    if (!finished) {
      state.restoreCounters()
      for (const t of state.made) t.dispose()
      native.captureDispose(state.handle)
    }
    collected.length = 0 // they are the capture's
    restore()
  }
}

/** Throws ERR_VALUE for a promise, whose rejection is told by that alone. */
function checkResult(where: string, result: unknown): void {
  if (result instanceof Promise) result.catch(() => {})
  checkSynchronous(where, result)
}
