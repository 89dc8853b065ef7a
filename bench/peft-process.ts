// One of the PEFT programs as a child process that measures when it is told to.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Figures } from './machine.ts'

export interface PeftProcess {
  /** Of torch, transformers and peft. */
  readonly versions: Figures
  /** Measures so many runs, and answers what the program says of them. */
  run(runs: number): Promise<Readonly<Record<string, unknown>>>
  quit(): void
}

/** Answers once it is warm. `script` is a file of bench/python. */
export async function openPeft(python: string, script: string, flags: readonly string[]): Promise<PeftProcess> {
  const child = spawn(python, [`bench/python/${script}`, ...flags, '--serve'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async (): Promise<Record<string, unknown>> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`${python} bench/python/${script} ended without an answer`)
    return JSON.parse(value) as Record<string, unknown>
  }
  const ready = await answer()
  return {
    versions: Object.fromEntries(['torch', 'transformers', 'peft'].map((name) => [name, String(ready[name])])),
    run: (runs) => {
      child.stdin.write(`run ${runs}\n`)
      return answer()
    },
    quit: () => void child.stdin.end('quit\n'),
  }
}
