// The tiny BART behind an engine on any runtime, with the golden prefix and a tokenizer whose texts are numbers of tokens.
import assert from 'node:assert/strict'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import { layoutFor } from '../../src/engine/played.ts'
import { type DoneEvent, type GenerateRequest, greedy } from '../../src/engine/request.ts'
import { openModel } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import type { DecodeSession, Runtime } from '../../src/runtime/runtime.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { bartFolder, bartGolden as golden, type GoldenText } from '../golden/bart.ts'

const model = await openModel(`${bartFolder}/model`)
const [begin, end] = [0, 2]
const special = new Map([
  [begin, '<s>'],
  [1, '<pad>'],
  [end, '</s>'],
])

/** A text is the numbers of its tokens. */
const tokenizer: Tokenizer = {
  vocabulary: model.config.vocabulary,
  endOfText: end,
  special,
  sha256: 'b'.repeat(64),
  encode: (text) => (text.match(/\d+/g) ?? []).map(Number),
  decode: (tokens) =>
    tokens
      .filter((token) => !special.has(token))
      .map((token) => `${token} `)
      .join(''),
}

const { heads, headDim } = model.config
const prefix: Prefix = {
  header: {
    attachment: 'decoder_self',
    places: model.places,
    textPositionStart: 0,
    prefixLength: golden.prefixLength,
    layers: golden.prefix.keys.shape[0] as number,
    heads,
    headDim,
    modelSha256: model.sha256,
    tokenizerSha256: tokenizer.sha256,
    template: '{input}',
    training: {},
  },
  keys: Float32Array.from(golden.prefix.keys.data),
  values: Float32Array.from(golden.prefix.values.data),
}
/** `all` is for all places, `longer` for another model. */
const stored: Record<string, Prefix> = {
  all: prefix,
  longer: { ...prefix, header: { ...prefix.header, places: [{ attachment: 'decoder_self', layers: 7 }] } },
}
const loadPrefix = async (id: string): Promise<Prefix> => stored[id] ?? assert.fail(id)

export function openBartSession(runtime: Runtime, rowsMax: number): Promise<DecodeSession> {
  const layout = layoutFor(model, rowsMax, model.config.positionsMax)
  const forward = model.forwardGraph(runtime.segments)
  return runtime.openSession(forward, model.weights, layout, 'float32', model.sourceGraph())
}

/** `forced`: with the tokens that the model forces at the beginning and at the end. */
export function bartEngine(session: DecodeSession, forced: boolean): Engine {
  const framing = forced ? model.framing : { ...model.framing, forcedFirst: null, forcedLast: null }
  return new Engine({ session, tokenizer, loadPrefix, model: { ...model, framing }, limits: defaultLimits })
}

const base = { prefixId: null, maxNewTokens: 8, stop: [], seed: 1, decoding: greedy, logprobs: false }

export async function generate(
  engine: Engine,
  request: Partial<GenerateRequest> & Pick<GenerateRequest, 'inputs'>,
): Promise<DoneEvent> {
  for await (const event of engine.generate({ ...base, ...request }, new AbortController().signal))
    if (event.type === 'done') return event
  return assert.fail('no end')
}

/** Without begin and end, which the model's framing puts around it. */
export const inputOf = ({ source }: Pick<GoldenText, 'source'>): string => source.slice(1, -1).join(' ')
export const textOf = (tokens: readonly number[]): string => tokenizer.decode(tokens)

/** What the golden generations ask for, all of it at once, with what came of it; `rows` are numbers of those of each case. */
export async function generateGolden(
  engine: Engine,
  forced: boolean,
  rows: readonly number[] | null = null,
): Promise<readonly { readonly what: string; readonly row: GoldenText; readonly done: DoneEvent }[]> {
  const cases = golden.generations.filter((each) => each.forced === forced)
  const all = cases.flatMap(({ decoding: { minNewTokens = 0, ...changes }, maxNewTokens, rows: texts }) =>
    texts
      .filter((_, i) => rows === null || rows.includes(i))
      .map(async (row) => {
        const n = changes.strategy === 'beam' ? (changes.beams as number) : 1
        const decoding = { ...greedy, ...changes, n, bestOf: n }
        const prefixId = row.prefix ? 'all' : null
        const done = await generate(engine, { inputs: [inputOf(row)], prefixId, decoding, minNewTokens, maxNewTokens })
        return { what: JSON.stringify({ ...decoding, ...row }), row, done }
      }),
  )
  return Promise.all(all)
}
