// What has been measured so far, in a file that grows by one training at a time: a run that was stopped goes on from it.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Machine } from '../machine.ts'

const resultsFile = 'docs/e2e/results.json'

/** Scores by name, with the number of `records` behind them. */
export type Scores = Readonly<Record<string, number>>

export interface Sample {
  readonly input: string
  readonly reference: string
  readonly output: string
}

export interface Result {
  readonly id: string
  readonly study: string
  /** Trained on so many. */
  readonly examples: number
  /** Options as used. */
  readonly training: Readonly<Record<string, unknown>>
  /** Optimizer steps done; the prefix is that of step `bestStep`. */
  readonly steps: number
  readonly bestStep: number
  /** Nats per token on examples of the development set, by which the step was chosen. */
  readonly validationLoss: number | null
  /** Nats per token on the fixed sample of test pairs; null for the bare model. */
  readonly testLoss: number | null
  /** Of the fixed sample of test records. */
  readonly sample?: Scores
  /** Of the whole sets, for some. */
  readonly dev?: Scores
  readonly test?: Scores
  /** What is said of the first test records, for some. */
  readonly texts?: readonly Sample[]
  readonly machine: Machine
}

/** In the order in which they were measured; none where there is no file yet. */
export function readResults(): readonly Result[] {
  try {
    return (JSON.parse(readFileSync(resultsFile, 'utf8')) as { results: Result[] }).results
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** In one go and without waiting, so that two processes that measure different things do not lose each other's results. */
export function addResult(result: Result): void {
  const others = readResults().filter(({ id }) => id !== result.id)
  mkdirSync(path.dirname(resultsFile), { recursive: true })
  const partial = `${resultsFile}.${process.pid}`
  writeFileSync(partial, `${JSON.stringify({ results: [...others, result] }, null, 1)}\n`)
  renameSync(partial, resultsFile)
}
