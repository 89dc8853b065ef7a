// A program in Python that is measured in turn with ours: it waits until it is told to run.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface Rival {
  /** What it says about itself: versions, threads. */
  readonly about: Readonly<Record<string, unknown>>
  /** The answer to `run N`. */
  run(count: number): Promise<Readonly<Record<string, unknown>>>
  quit(): void
}

/** Starts `script`, a file of bench/python, and waits until it is warm. */
export async function openRival(python: string, script: string, flags: readonly string[]): Promise<Rival> {
  const child = spawn(python, [`bench/python/${script}`, ...flags, '--serve'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async (): Promise<Record<string, unknown>> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`${python} ${script} ended without an answer`)
    const said = JSON.parse(value) as Record<string, unknown>
    if ('error' in said) throw new Error(`${script}: ${String(said['error'])}`)
    return said
  }
  const about = await answer()
  return {
    about,
    run: (count) => {
      child.stdin.write(`run ${count}\n`)
      return answer()
    },
    quit: () => void child.stdin.end('quit\n'),
  }
}
