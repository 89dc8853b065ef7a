// Frozen weights as they lie on disk: named byte ranges of files, read in place and never copied.
import path from 'node:path'

/** The 8-bit ones are what a runtime makes of a checkpoint's weights, never a checkpoint's own. */
export type WeightDType = 'float32' | 'float16' | 'bfloat16' | 'int8' | 'uint8'

export interface Weight {
  readonly name: string
  readonly dtype: WeightDType
  readonly shape: readonly number[]
  /** Path of the file below the folder, without symbolic links. */
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

/** The nearest folder that both folders, absolute and without symbolic links, lie below. */
export function commonFolder(a: string, b: string): string {
  for (let folder = a; ; folder = path.dirname(folder)) {
    const relative = path.relative(folder, b)
    if (!relative.startsWith('..') && !path.isAbsolute(relative)) return folder
    if (path.dirname(folder) === folder) throw new Error(`${a} and ${b} lie on different drives`)
  }
}
