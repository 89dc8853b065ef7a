// Frozen weights as they lie on disk: named byte ranges of files, read in place and never copied.

export type WeightDType = 'float32' | 'float16' | 'bfloat16'

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
  readonly tensors: ReadonlyMap<string, Weight>
}
