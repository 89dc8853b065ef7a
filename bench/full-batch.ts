// Keeps the engine's batch full with requests, each with a prefix and a length of its own choosing, and counts tokens.
import type { Engine } from '../src/engine/engine.ts'
import { defaultLimits, type EngineLimits } from '../src/engine/limits.ts'
import { greedy, type GenerateRequest } from '../src/engine/request.ts'
import { defaultTemplate, promptOf } from '../src/prefix/template.ts'
import type { Random } from '../src/random/random.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { readHeldOut } from './records.ts'

/** Without drafts: texts of seeded weights repeat themselves, and drafts of them come true as those of real texts do not. */
export const limitsForSeeded: EngineLimits = { ...defaultLimits, draftTokensMax: 0 }

/** The same, but no token ends a text: every run makes the same number of tokens. */
export function endless(tokenizer: Tokenizer): Tokenizer {
  return { ...tokenizer, endOfText: -1 }
}

/** Words of held-out records that come to exactly so many tokens with the default template. */
export async function inputsOfLength(
  tokenizer: Tokenizer,
  random: Random,
  { count, tokens }: { readonly count: number; readonly tokens: number },
): Promise<string[]> {
  const words = (await readHeldOut()).flatMap(({ input }) => input.split(' '))
  const inputs: string[] = []
  while (inputs.length < count) {
    const start = random.below(words.length - tokens)
    // A word has at least one token. Where a word goes over the length, another place is tried.
    for (let end = start + 1; end <= start + tokens; end++) {
      const input = words.slice(start, end).join(' ')
      const { length } = tokenizer.encode(promptOf(defaultTemplate, input))
      if (length === tokens) inputs.push(input)
      if (length >= tokens) break
    }
  }
  return inputs
}

export interface FullBatch {
  /** One for each request; null: the bare model. */
  readonly prefixIds: readonly (string | null)[]
  readonly inputs: readonly string[]
  /** Of every request, or of each. */
  readonly newTokens: number | readonly number[]
  /** Requests that are open at once. */
  readonly open: number
}

/** Tokens per second, from the first request to the last token. */
export async function measureFullBatch(engine: Engine, batch: FullBatch): Promise<number> {
  const { prefixIds, inputs, newTokens, open } = batch
  const lengths = prefixIds.map((_, i) => (typeof newTokens === 'number' ? newTokens : (newTokens[i] as number)))
  const expected = lengths.reduce((sum, length) => sum + length, 0)
  let next = 0
  let tokens = 0
  const startMs = performance.now()
  const client = async (): Promise<void> => {
    for (let i = next++; i < prefixIds.length; i = next++) {
      const input = inputs[i % inputs.length] as string
      // Awaited first: the sum may have grown meanwhile.
      const made = await generate(engine, requestOf(prefixIds[i] as string | null, input, lengths[i] as number))
      tokens += made
    }
  }
  await Promise.all(Array.from({ length: Math.min(open, prefixIds.length) }, client))
  if (tokens !== expected) throw new Error(`${tokens} tokens came, expected were ${expected}`)
  return (1000 * tokens) / (performance.now() - startMs)
}

function requestOf(prefixId: string | null, input: string, maxNewTokens: number): GenerateRequest {
  return { prefixId, inputs: [input], maxNewTokens, stop: [], seed: 1, decoding: greedy, logprobs: false }
}

async function generate(engine: Engine, request: GenerateRequest): Promise<number> {
  for await (const event of engine.generate(request, new AbortController().signal))
    if (event.type === 'done') return event.usage.outputTokens
  throw new Error('a generation ended without its last event')
}
