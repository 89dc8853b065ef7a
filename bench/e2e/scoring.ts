// What a trained prefix is worth: its loss on test pairs, and the scores of the texts that it makes of records.
import { scoreTexts } from '../../src/evaluate/evaluate.ts'
import { type GenerateRequest, greedy } from '../../src/engine/request.ts'
import { generateTexts } from '../../src/jobs/generations.ts'
import { samplingParts } from '../../src/jobs/sampling-engine.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import type { ReferencedInput } from '../../src/prefix/references.ts'
import { defaultTemplate, promptOf } from '../../src/prefix/template.ts'
import { promptLeft, withPrompts, type InfixParts } from './infix.ts'
import type { Sample, Scores } from './results.ts'

/** The longest sentence of the data set has fewer. */
const newTokensMax = 120

/** Texts that are shown to be read. */
const textsShown = 4

export interface Scored {
  readonly scores: Scores
  readonly texts: readonly Sample[]
}

/** Greedy, by the engine; `prefix` null is the bare model. */
export async function score(
  parts: InfixParts,
  prefix: Prefix | null,
  records: readonly ReferencedInput[],
): Promise<Scored> {
  const { requests, prefixes, positions } = await asked(parts, prefix, records)
  const sampling = samplingParts(parts.runtime, parts.model, parts.tokenizer)
  const engine = await sampling.openEngine((id) => Promise.resolve(prefixes[Number(id)] as Prefix), positions)
  try {
    const texts = (await generateTexts(engine, requests, new AbortController().signal)) as readonly string[]
    const { bleu, nist, meteor, rougeL, cider } = scoreTexts(
      texts,
      records.map(({ references }) => references),
    )
    const shown = records.slice(0, textsShown).map(({ input, references }, i) => {
      return { input, reference: references[0] as string, output: texts[i] as string }
    })
    return { scores: { bleu, nist, meteor, rougeL, cider, records: records.length }, texts: shown }
  } finally {
    await engine.dispose()
  }
}

interface Asked {
  readonly requests: readonly GenerateRequest[]
  /** By the number that a request names. */
  readonly prefixes: readonly Prefix[]
  /** Of the longest sequence. */
  readonly positions: number
}

async function asked(parts: InfixParts, prefix: Prefix | null, records: readonly ReferencedInput[]): Promise<Asked> {
  const inputs = records.map(({ input }) => input)
  const plain = { maxNewTokens: newTokensMax, stop: [], seed: 0, decoding: greedy, logprobs: false }
  if (prefix?.header.attachment === 'infix') {
    const prefixes = await withPrompts(parts, prefix, inputs)
    const longest = Math.max(...prefixes.map(({ header }) => header.prefixLength))
    const requests = prefixes.map((_, i) => ({ ...plain, prefixId: String(i), inputs: [promptLeft] }))
    return { requests, prefixes, positions: longest + 1 + newTokensMax }
  }
  const template = prefix?.header.template ?? defaultTemplate
  const requests = inputs.map((input) => ({ ...plain, prefixId: prefix === null ? null : '0', inputs: [input] }))
  const lengths = inputs.map((input) => parts.tokenizer.encode(promptOf(template, input)).length)
  const positions = (prefix?.header.prefixLength ?? 0) + Math.max(...lengths) + newTokensMax
  return { requests, prefixes: prefix === null ? [] : [prefix], positions }
}
