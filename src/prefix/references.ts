// Examples that ask the same, brought together: one input and every output that would be right.
import type { Example } from './example.ts'

export interface ReferencedInput {
  readonly input: string
  /** At least one, none twice. */
  readonly references: readonly string[]
}

/** In the order in which the inputs first come. */
export function groupByInput(examples: readonly Example[]): ReferencedInput[] {
  const outputsOf = new Map<string, Set<string>>()
  for (const { input, output } of examples) {
    const outputs = outputsOf.get(input)
    if (outputs === undefined) outputsOf.set(input, new Set([output]))
    else outputs.add(output)
  }
  return [...outputsOf].map(([input, outputs]) => ({ input, references: [...outputs] }))
}
