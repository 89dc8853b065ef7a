// What a decode step costs beside the model: choosing tokens, making texts of them, keeping the cache; and loading a prefix.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Detokenizer } from '../src/engine/detokenizer.ts'
import { Engine } from '../src/engine/engine.ts'
import { defaultLimits } from '../src/engine/limits.ts'
import { type Decoding, type GenerateRequest, greedy } from '../src/engine/request.ts'
import type { Model } from '../src/model/model.ts'
import { PrefixRegistry } from '../src/prefix/registry.ts'
import { Random } from '../src/random/random.ts'
import { Avx2Program } from '../src/runtime/avx2/program.ts'
import { LoadedWeights } from '../src/runtime/avx2/weights.ts'
import { OnnxDecodeSession } from '../src/runtime/onnx/decode-session.ts'
import { keysByPosition, withoutPresent } from '../src/runtime/onnx/keys-by-position.ts'
import { lower } from '../src/runtime/onnx/lower.ts'
import { createOnnxRuntime } from '../src/runtime/onnx/onnx.ts'
import { OnnxProgram } from '../src/runtime/onnx/program.ts'
import { openStore } from '../src/store/open.ts'
import { openTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { endless, inputsOfLength } from './full-batch.ts'
import { measureLoading } from './loading.ts'
import { median, type Figures } from './machine.ts'
import { StepClock } from './step-clock.ts'
import { storePrefixes } from './stored-prefixes.ts'

export interface ChoosingOptions {
  readonly model: Model
  readonly folder: string
  readonly threads: number
  readonly rows: number
  readonly rounds: number
  /** `float32` or `words`. */
  readonly form: string
}

const prefixLength = 10
const promptTokens = 8
/** Of each row in one round: most of them in steps that carry all rows, whose prompts are short for that. */
const newTokens = 40
const sample: Decoding = { ...greedy, strategy: 'sample' }
const penalties = { repetitionPenalty: 1.2, presencePenalty: 0.5, frequencyPenalty: 0.5, noRepeatNgramSize: 3 }
const asked: readonly (readonly [string, Decoding, number | null])[] = [
  ['greedy', greedy, null],
  ['temperature 0.8, top-p 0.95', { ...sample, temperature: 0.8, topP: 0.95 }, null],
  ['top-k 50', { ...sample, topK: 50 }, null],
  ['greedy, all penalties', { ...greedy, ...penalties }, null],
  ['greedy, 5 alternatives', greedy, 5],
]

/** A line for each way of choosing and two for a part alone, in percent of the whole step; and one for loading. */
export async function measureChoosing(options: ChoosingOptions): Promise<Figures[]> {
  const { model, rows } = options
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-bench-choosing-'))
  try {
    const tokenizer = endless(await openTokenizer(options.folder))
    const store = await openStore(folder)
    const registry = new PrefixRegistry(store)
    const ids = await storePrefixes(registry, model, tokenizer, { count: rows, prefixLength, seed: 1 })
    const steps = await measureSteps(options, tokenizer, registry, ids)
    const stepMs = steps[0]?.['stepMs'] as number
    const textsMs = measureTexts(tokenizer, rows)
    return [
      ...steps,
      { part: 'texts of tokens', ms: textsMs, percent: (100 * textsMs) / stepMs },
      { part: 'loading a prefix', ...(await measureLoading(store, ids)) },
    ]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function measureSteps(
  { model, threads, rows, rounds, form }: ChoosingOptions,
  tokenizer: Tokenizer,
  registry: PrefixRegistry,
  ids: readonly string[],
): Promise<Figures[]> {
  const opened = { threads, packed: true }
  const forward = model.forwardGraph(createOnnxRuntime(opened).segments)
  const appends = form === 'words'
  const fed = keysByPosition(forward)
  const program = appends
    ? new Avx2Program(withoutPresent(fed), LoadedWeights.from(model.weights), { threads, appends })
    : await OnnxProgram.open(lower(fed, model.weights), model.weights.folder, opened)
  const clock = new StepClock(program, rows, model.config.vocabulary)
  const session = clock.watch(new OnnxDecodeSession(clock, forward, { ...model.config, rowsMax: rows }, { appends }))
  const engine = new Engine({ session, tokenizer, loadPrefix: (id) => registry.load(id), limits: defaultLimits })
  const inputs = await inputsOfLength(tokenizer, new Random(2), { count: rows, tokens: promptTokens })
  const figures: Figures[] = []
  for (const [choosing, decoding, topLogprobs] of asked) {
    for (let round = -1; round < rounds; round++) {
      if (round <= 0) clock.clear()
      const requests = inputs.map((input, i) => requestOf(ids[i] as string, input, decoding, topLogprobs))
      await Promise.all(requests.map((request) => finish(engine, request)))
    }
    figures.push({ choosing, form, rows, ...clock.figures() })
  }
  await engine.close()
  await session.dispose()
  return figures
}

function requestOf(prefixId: string, input: string, decoding: Decoding, topLogprobs: number | null): GenerateRequest {
  const base = { prefixId, inputs: [input], maxNewTokens: newTokens, stop: [], seed: 1, decoding }
  return topLogprobs === null ? { ...base, logprobs: false } : { ...base, logprobs: true, topLogprobs }
}

async function finish(engine: Engine, request: GenerateRequest): Promise<void> {
  for await (const event of engine.generate(request, new AbortController().signal)) if (event.type === 'done') return
}

const textRounds = 200

/** Median milliseconds for one token of each row. */
function measureTexts(tokenizer: Tokenizer, rows: number): number {
  const texts = Array.from({ length: rows }, () => new Detokenizer(tokenizer))
  const times = Array.from({ length: textRounds }, (_, round) => {
    const startMs = performance.now()
    texts.forEach((text, row) => text.push(((round * rows + row) * 7919) % tokenizer.vocabulary))
    return performance.now() - startMs
  })
  return median(times.slice(textRounds / 2))
}
