// The records of examples/e2e that benchmarks train on and ask for.
import { readFile } from 'node:fs/promises'
import type { Example } from '../src/prefix/example.ts'

export interface HeldOut {
  readonly input: string
  readonly references: readonly string[]
}

export const readExamples = (): Promise<Example[]> => readLines<Example>('train')
export const readHeldOut = (): Promise<HeldOut[]> => readLines<HeldOut>('heldout')

async function readLines<Line>(name: string): Promise<Line[]> {
  const lines = (await readFile(`examples/e2e/${name}.jsonl`, 'utf8')).trim().split('\n')
  return lines.map((line) => JSON.parse(line) as Line)
}
