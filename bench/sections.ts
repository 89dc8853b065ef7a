// The page of benchmarks: sections that can be taken anew one by one, each with where and when it was taken.
import { readFile, writeFile } from 'node:fs/promises'
import type { Figures, Machine } from './machine.ts'

export interface Section {
  readonly heading: string
  /** Markdown: what was done, then a table. */
  readonly text: string
}

/** Where and with what the sections of one run were taken. */
export interface Taken {
  readonly machine: Machine
  readonly threads: number
  /** Of the rivals, by their names. */
  readonly rivals: Figures
}

const benchmarksFile = 'docs/benchmarks.md'

const introduction = `# Benchmarks

Written by \`npm run bench\`: by \`report\` as a whole, by other commands section by section. Figures are medians of one run; a ratio compares two things
measured in turn in that run, which is what holds when a machine's speed drifts. Models named after a shape have seeded weights of that shape.
`

/** Puts the sections in the place of those with their headings, or at the end; answers the file. */
export async function writeSections(
  sections: readonly Section[],
  taken: Taken,
  file = benchmarksFile,
): Promise<string> {
  const earlier = await readFile(file, 'utf8').catch(() => '')
  const texts = new Map(earlier.split(/^## /m).slice(1).map(headed))
  for (const { heading, text } of sections) texts.set(heading, `\n${text.trim()}\n\n${describeTaken(taken)}\n\n`)
  const all = [...texts].map(([heading, text]) => `## ${heading}\n${text}`)
  await writeFile(
    file,
    `${[introduction, ...all]
      .join('\n')
      .replace(/\n{3,}/g, '\n\n')
      .trim()}\n`,
  )
  return file
}

function headed(section: string): [heading: string, text: string] {
  const end = section.indexOf('\n')
  return [section.slice(0, end), section.slice(end + 1)]
}

function describeTaken({ machine, threads, rivals }: Taken): string {
  const { cpu, processors, node, onnxruntime, commit } = machine
  const others = Object.entries(rivals).map(([name, version]) => `${name} ${version}`)
  return `Taken on ${cpu}, ${processors} processors, ${threads} threads; Node ${node}, onnxruntime-node ${onnxruntime}, commit ${commit}${others.map((each) => `, ${each}`).join('')}.`
}

/** Headings say the unit, so cells need three digits and no more. */
export const show = (value: number | string | undefined): string =>
  typeof value === 'number' ? String(Number(value.toPrecision(3))) : (value ?? '–')

/** `columns`: the name of a figure, and what stands above it. */
export function table(columns: Readonly<Record<string, string>>, rows: readonly Figures[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const keys = Object.keys(columns)
  return [
    line(Object.values(columns)),
    line(keys.map(() => '---')),
    ...rows.map((row) => line(keys.map((key) => show(row[key])))),
  ].join('\n')
}
