// Trains in turn with PEFT, round by round, so that both meet the same weather on the machine.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { median, type Figures } from './machine.ts'
import type { TrainingBench } from './train.ts'

export interface PeftOptions {
  readonly folder: string
  /** A Python with torch, transformers and peft. */
  readonly python: string
  /** Of its weights: float32 or bfloat16. */
  readonly dtype: string
  readonly threads: number
  readonly rounds: number
}

/** Steps of each side in one round. */
const stepsPerRound = 2

export async function comparePeft(
  bench: TrainingBench,
  { folder, python, dtype, threads, rounds }: PeftOptions,
): Promise<Figures> {
  const child = spawn(
    python,
    ['bench/python/peft_train.py', '--model', folder, '--threads', String(threads), '--dtype', dtype, '--serve'],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async (): Promise<Record<string, unknown>> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`${python} bench/python/peft_train.py ended without an answer`)
    return JSON.parse(value) as Record<string, unknown>
  }
  const theirs: number[] = []
  const ours: number[] = []
  const ratios: number[] = []
  const ready = await answer()
  for (let round = -1; round < rounds; round++) {
    child.stdin.write(`run ${stepsPerRound}\n`)
    const { stepsMs } = (await answer()) as { stepsMs: number[] }
    const mine: number[] = []
    for (let i = 0; i < stepsPerRound; i++) mine.push(await bench.step())
    if (round < 0) continue // Both warm up.
    theirs.push(...stepsMs)
    ours.push(...mine)
    ratios.push(median(stepsMs) / median(mine))
  }
  child.stdin.end('quit\n')
  return {
    stepMsMedian: median(ours),
    stepMsMin: Math.min(...ours),
    stepsPerSecond: 1000 / median(ours),
    peftDtype: dtype,
    peftMsMedian: median(theirs),
    peftMsMin: Math.min(...theirs),
    timesFasterMedian: median(ratios),
    timesFasterMin: Math.min(...ratios),
    timesFasterMax: Math.max(...ratios),
    peakMemoryMiB: process.resourceUsage().maxRSS / 1024,
    ...versionsOf(ready),
  }
}

function versionsOf(ready: Readonly<Record<string, unknown>>): Figures {
  return Object.fromEntries(['torch', 'transformers', 'peft'].map((name) => [name, String(ready[name])]))
}
