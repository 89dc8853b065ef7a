// What may happen to the rows of a decode session between two steps, and the steps themselves, drawn at random.
import type { Random } from '../../src/random/random.ts'
import type { CacheLayout, DecodeSession, Past, SessionPart } from '../../src/runtime/runtime.ts'

type Randomized = Pick<DecodeSession, 'lengths' | 'layout' | 'vocabulary' | 'tellsEvery'>

/** Something that a scheduler does between two steps: a row that has no room left is always started anew. */
export function randomChange(random: Random, { lengths, layout }: DecodeSession): (session: DecodeSession) => void {
  const { rowsMax, positionsMax } = layout
  const full = lengths.findIndex((length) => length > positionsMax - 8)
  const row = full >= 0 ? full : random.below(rowsMax)
  const other = random.below(rowsMax)
  const held = lengths[other] as number
  if (full >= 0 || random.below(4) === 0) {
    const past = random.below(2) === 0 ? null : randomPast(random, layout, 1 + random.below(14))
    return (session) => session.seed(row, past)
  }
  if (random.below(3) > 1 || held > positionsMax - 8) return () => {}
  const until = random.below(held + 1)
  return (session) => session.copy(other, row, other === row ? until : 0, until)
}

/** One or two runs of rows, the first with a token each or, where the session tells what comes after every one, with drafts behind it. */
export function randomParts(random: Random, { lengths, layout, vocabulary, tellsEvery }: Randomized): SessionPart[] {
  const { rowsMax, positionsMax } = layout
  const tokens = (count: number): number[] => Array.from({ length: count }, () => random.below(vocabulary))
  const split = 1 + random.below(rowsMax)
  const end = split + random.below(rowsMax - split + 1)
  const room = Math.max(1, Math.min(6, positionsMax - Math.max(...lengths)))
  const every = tellsEvery && random.below(2) === 0
  const decode = {
    start: 0,
    tokens: Array.from({ length: split }, () => tokens(every ? 1 + random.below(room) : 1)),
    ...(every && { every }),
  }
  const prefill = { start: split, tokens: Array.from({ length: end - split }, () => tokens(1 + random.below(room))) }
  return prefill.tokens.length === 0 ? [decode] : [decode, prefill]
}

function randomPast(random: Random, { layers, heads, headDim }: CacheLayout, length: number): Past {
  const numbers = (): Float32Array =>
    Float32Array.from({ length: layers * heads * length * headDim }, () => random.normal())
  return { keys: numbers(), values: numbers(), length }
}
