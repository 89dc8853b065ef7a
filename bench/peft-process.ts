// One of the PEFT programs as a child process that measures when it is told to.
import type { Figures } from './machine.ts'
import { openRival, type Rival } from './rival.ts'

export interface PeftProcess extends Rival {
  /** Of torch, transformers and peft. */
  readonly versions: Figures
}

/** Answers once it is warm. `script` is a file of bench/python. */
export async function openPeft(python: string, script: string, flags: readonly string[]): Promise<PeftProcess> {
  const rival = await openRival(python, script, flags)
  const names = ['torch', 'transformers', 'peft']
  return { ...rival, versions: Object.fromEntries(names.map((name) => [name, String(rival.about[name])])) }
}
