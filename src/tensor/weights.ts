// Frozen weights as they lie on disk: named byte ranges of files, read in place and never copied.

/** The 8-bit ones are what a runtime makes of a checkpoint's weights, never a checkpoint's own. */
export type WeightDType = 'float32' | 'float16' | 'bfloat16' | 'int8' | 'uint8'

export interface Weight {
  readonly name: string
  readonly dtype: WeightDType
  readonly shape: readonly number[]
  /** Name of the file inside the folder. */
  readonly file: string
  /** Of the first byte, from the beginning of the file. */
  readonly offset: number
  readonly bytes: number
}

export interface Weights {
  readonly folder: string
  /** Over the files that the tensors lie in; what is made of them may be kept under this name. */
  readonly sha256?: string
  readonly tensors: ReadonlyMap<string, Weight>
}
