// The E2E data set in the files of the paper: a record, two bars and a sentence a line.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Example } from '../../src/prefix/example.ts'
import { groupByInput, type ReferencedInput } from '../../src/prefix/references.ts'
import { Random } from '../../src/random/random.ts'

export interface Corpus {
  /** One for each line, in an order drawn once: the first n are the sample of n. */
  readonly train: readonly Example[]
  readonly dev: Split
  readonly test: Split
}

export interface Split {
  /** One for each line, in an order drawn once. */
  readonly pairs: readonly Example[]
  /** One for each record, with all its sentences; in the order of the file. */
  readonly records: readonly ReferencedInput[]
}

/** Draws every order that is drawn here. */
const orderSeed = 1

/** Throws where a file is missing or a line is no pair. */
export async function readCorpus(folder: string): Promise<Corpus> {
  const [train, dev, test] = await Promise.all(['train', 'valid', 'test'].map((name) => readPairs(folder, name)))
  return { train: shuffled(train as Example[]), dev: splitOf(dev as Example[]), test: splitOf(test as Example[]) }
}

/** So many of `items`, drawn by a seed that is always the same. */
export function drawn<T>(items: readonly T[], count: number): readonly T[] {
  return shuffled(items).slice(0, count)
}

function splitOf(pairs: readonly Example[]): Split {
  return { pairs: shuffled(pairs), records: groupByInput(pairs) }
}

function shuffled<T>(items: readonly T[]): T[] {
  const copy = [...items]
  new Random(orderSeed).shuffle(copy)
  return copy
}

async function readPairs(folder: string, name: string): Promise<Example[]> {
  const file = path.join(folder, `src1_${name}.txt`)
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line.trim() !== '')
  return lines.map((line, index) => {
    const [input, output, ...more] = line.split('||').map((part) => part.trim())
    if (input === undefined || output === undefined || output === '' || more.length > 0)
      throw new Error(`${file}:${index + 1} is not a record, two bars and a sentence`)
    return { input, output }
  })
}
