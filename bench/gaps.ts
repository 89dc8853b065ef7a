// The time between two tokens of rows that decode while long prompts keep arriving.
import { Engine } from '../src/engine/engine.ts'
import { greedy, type GenerateRequest } from '../src/engine/request.ts'
import type { Model } from '../src/model/model.ts'
import { Random } from '../src/random/random.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { limitsForSeeded } from './full-batch.ts'
import { median, quantile, type Figures } from './machine.ts'

export interface GapsWorkload {
  /** Of the session's products. */
  readonly form: string
  /** Rows that decode throughout. */
  readonly rows: number
  /** Tokens of each prompt that arrives; 0: none arrives. */
  readonly promptLength: number
  readonly seconds: number
}

/** Long enough that rows seldom begin anew. */
const newTokens = 400
/** Prompts in line at any time. */
const arriving = 2
/** Until all rows decode, and the pace is known. */
const warmUpMs = 3000

/** Letters stand for themselves: speed does not depend on words. Nothing ends a text. */
const letters: Tokenizer = {
  vocabulary: 256,
  endOfText: -1,
  special: new Map(),
  sha256: '',
  encode: (text: string) => Array.from(text, (letter) => letter.charCodeAt(0) % 256),
  decode: (tokens: readonly number[]) => tokens.map((token) => String.fromCharCode(97 + (token % 26))).join(''),
}

export async function measureGaps(runtime: Runtime, model: Model, workload: GapsWorkload): Promise<Figures> {
  const { form, rows, promptLength, seconds } = workload
  const layout = { ...model.config, rowsMax: rows + 1 }
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout, form)
  const loadPrefix = (): Promise<never> => Promise.reject(new Error('no prefix is named'))
  const engine = new Engine({ session, tokenizer: letters, loadPrefix, limits: limitsForSeeded })
  const random = new Random(7)
  const text = (length: number): string =>
    Array.from({ length }, () => String.fromCharCode(1 + random.below(255))).join('')
  const stop = new AbortController()
  const startMs = performance.now()
  const gapsMs: number[] = []
  let promptTokens = 0
  const measured = (): boolean => performance.now() - startMs > warmUpMs

  const decode = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      let lastMs = 0
      for await (const event of engine.generate(request(text(40), newTokens), stop.signal)) {
        if (event.type !== 'token') continue
        const nowMs = performance.now()
        if (lastMs > 0 && measured()) gapsMs.push(nowMs - lastMs)
        lastMs = nowMs
      }
    }
  }
  const arrive = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      for await (const _ of engine.generate(request(text(promptLength), 1), stop.signal));
      if (measured()) promptTokens += promptLength
    }
  }
  const arrivals = promptLength === 0 ? 0 : arriving
  const clients = [...Array.from({ length: rows }, decode), ...Array.from({ length: arrivals }, arrive)]
  const settled = Promise.allSettled(clients)
  setTimeout(() => stop.abort(), warmUpMs + 1000 * seconds)
  await settled
  await engine.close()
  await session.dispose()
  gapsMs.sort((a, b) => a - b)
  return {
    model: model.name,
    form,
    rows,
    promptLength,
    gapMsMedian: median(gapsMs),
    gapMsP99: quantile(gapsMs, 0.99),
    gapMsMax: quantile(gapsMs, 1),
    timesMedian: quantile(gapsMs, 0.99) / median(gapsMs),
    tokensPerSecond: gapsMs.length / seconds,
    promptTokensPerSecond: promptTokens / seconds,
  }
}

function request(input: string, maxNewTokens: number): GenerateRequest {
  const base = { prefixId: null, template: '{input}', stop: [], seed: 1, logprobs: false }
  return { ...base, inputs: [input], maxNewTokens, decoding: greedy }
}
