// Where and with what a figure was taken: a number without these means nothing.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'

/** What was measured, by name; names end in their unit. */
export type Figures = Readonly<Record<string, number | string>>

export interface Machine {
  readonly cpu: string
  readonly processors: number
  readonly node: string
  readonly onnxruntime: string
  readonly version: string
  readonly commit: string
}

export function describeMachine(): Machine {
  const versionOf = (file: string): string => (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    processors: availableParallelism(),
    node: process.versions.node,
    onnxruntime: versionOf('node_modules/onnxruntime-node/package.json'),
    version: versionOf('package.json'),
    commit: commit(),
  }
}

function commit(): string {
  try {
    const run = (...args: string[]): string =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
    return run('rev-parse', '--short', 'HEAD') + (run('status', '--porcelain') === '' ? '' : ' with changes')
  } catch {
    return 'unknown'
  }
}

/** The middle of the sorted values, or the mean of the two middle ones. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length / 2
  return ((sorted[Math.ceil(half) - 1] as number) + (sorted[Math.floor(half)] as number)) / 2
}

/** The median and both ends of what was measured in rounds: of a ratio all three are told. */
export function spread(name: string, values: readonly number[]): Readonly<Record<string, number>> {
  return { [`${name}Median`]: median(values), [`${name}Min`]: Math.min(...values), [`${name}Max`]: Math.max(...values) }
}

/** The value that a share of the sorted values, from above 0 to 1, does not go beyond. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.ceil(sorted.length * share) - 1] as number
}
