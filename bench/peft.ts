// Trains in turn with PEFT, round by round, so that both meet the same weather on the machine.
import { median, spread, type Figures } from './machine.ts'
import { openPeft } from './peft-process.ts'
import type { TrainingBench, TrainingWorkload } from './train.ts'

export interface PeftOptions {
  readonly folder: string
  /** A Python with torch, transformers and peft. */
  readonly python: string
  /** Of its weights: float32 or bfloat16. */
  readonly dtype: string
  readonly threads: number
  /** PyTorch's name of it; the CPU unless said. */
  readonly device?: string
  readonly rounds: number
  /** Steps of each side in one round; 2 unless said. */
  readonly stepsPerRound?: number
  /** Of the program, besides. */
  readonly flags?: readonly string[]
  /** Real batches in place of the made-up one: a file for `--examples`, and how many batches are a pass. */
  readonly real?: { readonly file: string; readonly theirSteps: number; readonly ourSteps: number }
}

/** Of the program: the same work as ours. */
export const trainingFlags = ({ batchSize, length, targets, prefixLength }: TrainingWorkload): string[] =>
  ['--batch', batchSize, '--tokens', length, '--targets', targets, '--prefix-length', prefixLength].map(String)

export async function comparePeft(
  bench: TrainingBench,
  { folder, python, dtype, threads, device = 'cpu', rounds, stepsPerRound = 2, flags: more = [], real }: PeftOptions,
): Promise<Figures> {
  const flags = ['--model', folder, '--threads', String(threads), '--dtype', dtype, '--device', device]
  const peft = await openPeft(python, 'peft_train.py', [
    ...flags,
    ...more,
    ...(real === undefined ? [] : ['--examples', real.file]),
  ])
  const { theirSteps, ourSteps } = real ?? { theirSteps: stepsPerRound, ourSteps: stepsPerRound }
  const theirs: number[] = []
  const ours: number[] = []
  const ratios: number[] = []
  const [reads, firsts]: [number[], number[]] = [[], []]
  for (let round = -1; round < rounds; round++) {
    const { stepsMs } = (await peft.run(theirSteps)) as { stepsMs: number[] }
    const mine: number[] = []
    for (let i = 0; i < ourSteps; i++) mine.push(await bench.step())
    const readMs = (await bench.readSources?.()) ?? null
    if (round < 0) continue // Both warm up.
    if (readMs !== null) {
      reads.push(readMs)
      firsts.push(median(stepsMs) / (median(mine) + readMs))
    }
    theirs.push(...stepsMs)
    ours.push(...mine)
    // Real batches differ in length: there the whole pass counts.
    ratios.push(real === undefined ? median(stepsMs) / median(mine) : sum(stepsMs) / sum(mine))
  }
  peft.quit()
  return {
    stepMsMedian: median(ours),
    stepMsMin: Math.min(...ours),
    stepsPerSecond: 1000 / median(ours),
    peftDtype: dtype,
    peftMsMedian: median(theirs),
    peftMsMin: Math.min(...theirs),
    ...spread('timesFaster', ratios),
    // Of the first pass over the examples, in which their sources are read.
    ...(reads.length > 0 && { readMsMedian: median(reads), ...spread('timesFasterFirst', firsts) }),
    peakMemoryMiB: process.resourceUsage().maxRSS / 1024,
    ...peft.versions,
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
