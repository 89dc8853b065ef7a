// What the schema of decoding cannot say, and what a request's decoding is to the engine.
import { type Decoding, greedy } from '../engine/request.ts'
import type { DecodingBody } from './schemas/decoding.ts'
import type { FieldError } from './validation.ts'

/** Fields that do not go together. */
export function checkDecoding(decoding: DecodingBody): FieldError[] {
  const { strategy, n, bestOf, beams, lengthPenalty, earlyStopping } = decoding
  const errors: FieldError[] = []
  const refuse = (field: string, expected: string, received: unknown): void => {
    errors.push({ pointer: `/decoding/${field}`, expected, received: String(received) })
  }
  const strange = `as it is for strategy "beam" and the strategy is "${strategy}"`
  for (const [field, value] of Object.entries({ beams, lengthPenalty, earlyStopping }))
    if (strategy !== 'beam' && value !== undefined) refuse(field, `nothing, ${strange}`, value)
  if (strategy === 'beam' && n > (beams ?? greedy.beams)) refuse('n', `at most beams, ${beams ?? greedy.beams}`, n)
  if (bestOf !== undefined && bestOf < n) refuse('bestOf', `at least n, ${n}`, bestOf)
  else if (bestOf !== undefined && bestOf > n && strategy !== 'sample')
    refuse('bestOf', `nothing, as it is for strategy "sample" and the strategy is "${strategy}"`, bestOf)
  return errors
}

/** What was left out is as in `greedy`. */
export function toDecoding(decoding: DecodingBody): Decoding {
  const { n, bestOf = n } = decoding
  return { ...greedy, ...decoding, bestOf }
}
