// What is used of TensorFlow.js, written out: its own declarations need not be installed.

/** A tensor of TensorFlow.js. */
export interface TfTensor {
  /** Sizes of the axes. */
  readonly shape: number[]
  /** 'float32', 'int32' and others. */
  readonly dtype: string
  /** The elements; blocks the thread. */
  dataSync(): unknown
  /** Frees it. */
  dispose(): void
}

/** A variable of TensorFlow.js. */
export interface TfVariable extends TfTensor {
  /** Whether `dispose()` was called. */
  readonly isDisposed: boolean
  /** Overwrites the elements. */
  // biome-ignore lint/suspicious/noExplicitAny: a tensor of the program's TensorFlow.js
  assign(value: any): void
}

/** What is used of TensorFlow.js: pass the `tf` of your program. */
export interface TensorFlow<T extends TfTensor = TfTensor> {
  /** `tf.tensor` */
  tensor(values: Float32Array | Int32Array, shape: number[], dtype: 'float32' | 'int32'): T
  /** `tf.variable` */
  // biome-ignore lint/suspicious/noExplicitAny: a tensor of the program's TensorFlow.js
  variable(initial: any, trainable?: boolean): TfVariable
  /** `tf.customGrad` */
  customGrad(
    // biome-ignore lint/suspicious/noExplicitAny: tensors of the program's TensorFlow.js
    f: (...inputs: any[]) => { value: any; gradFunc: (dy: any) => any },
    // biome-ignore lint/suspicious/noExplicitAny: tensors of the program's TensorFlow.js
  ): (...inputs: any[]) => unknown
  /** `tf.engine` */
  engine(): { state: { gradientDepth: number; activeTape: unknown } }
}

/** What steps after a batch: an optimizer of this package, or an object around one. */
export interface Stepper {
  /** Updates the parameters from their gradients. */
  step(): void
  /** Clears the gradients. */
  zeroGrad(): void
}
