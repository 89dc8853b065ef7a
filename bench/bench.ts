// Without arguments: one canonical workload, two numbers. Words and flags name other benchmarks, shapes, folders and rivals.
import * as given from './arguments.ts'
import { commands, onDevice, writing, type Outcome } from './commands.ts'
import { describeMachine, type Figures } from './machine.ts'
import { writeSections } from './sections.ts'
import { usage } from './usage.ts'

async function run(): Promise<void> {
  const [name = '', ...rest] = given.words
  const command = given.runtimeName === 'onnx' ? commands[name] : onDevice[given.runtimeName]
  if (command === undefined || rest.length > 0 || (given.runtimeName !== 'onnx' && name !== ''))
    throw new Error(`${given.words.join(' ')} on ${given.runtimeName} is no benchmark\n${usage}`)
  const [machine, threads] = [describeMachine(), given.count('threads')]
  const { figures, sections = [] } = await command(await given.modelFolder())
  print({ ...figures, ...machine, threads })
  if (!given.write && !writing.includes(name)) return
  process.stdout.write(`wrote ${await writeSections(sections, { machine, threads, rivals: rivalsIn(figures) })}\n`)
}

/** Versions that rivals told of themselves, among the figures. */
function rivalsIn(figures: Outcome['figures']): Figures {
  const rows = Object.values(figures).flat() as Figures[]
  const versions: Record<string, string> = {}
  for (const row of rows)
    for (const name of ['torch', 'transformers', 'peft'])
      if (row[name] !== undefined) versions[name] = String(row[name])
  return versions
}

const line = (entries: Figures): string =>
  Object.entries(entries)
    .map(([key, value]) => `${key} ${typeof value === 'number' ? Number(value.toPrecision(4)) : value}`)
    .join('  ')

function print(report: Readonly<Record<string, unknown>>): void {
  if (given.json) {
    process.stdout.write(`${JSON.stringify(report)}\n`)
    return
  }
  for (const [name, value] of Object.entries(report)) {
    const parts = typeof value === 'object' ? ([value].flat() as Figures[]) : []
    for (const part of parts) process.stdout.write(`${name.padEnd(9)} ${line(part)}\n`)
  }
  const plain = Object.entries(report).filter(([, value]) => typeof value !== 'object')
  process.stdout.write(`on        ${line(Object.fromEntries(plain) as Figures)}\n`)
}

if (given.help) process.stdout.write(usage)
else await run()
