// A model with an encoder beside others: a training step in turn with PEFT, generation in turn with CTranslate2.
import { setTimeout } from 'node:timers/promises'
import { Engine } from '../src/engine/engine.ts'
import { pastsOf } from '../src/engine/past.ts'
import { layoutFor } from '../src/engine/played.ts'
import { openModel, type Model } from '../src/model/model.ts'
import type { Prefix } from '../src/prefix/prefix.ts'
import { Random } from '../src/random/random.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { shapeOn } from '../src/train/parameters.ts'
import { packedRuntime } from './decoding-forms.ts'
import { limitsForSeeded, measureFullBatch } from './full-batch.ts'
import { largest } from './generate.ts'
import { median, spread, type Figures } from './machine.ts'
import { comparePeft } from './peft.ts'
import { openRival, type Rival } from './rival.ts'
import { openTrainingBench, sourceTraining } from './train.ts'

export interface SourceOptions {
  readonly folder: string
  readonly threads: number
  readonly rounds: number
  /** Of trainings. */
  readonly precisions: readonly string[]
  /** For each rival a Python that has it; null: what is compared with it is left out. */
  readonly peft: string | null
  readonly ctranslate2: string | null
}

const rows = 16
const newTokens = 48
const { prefixLength, source: sourceTokens = 0 } = sourceTraining
/** For idle threads of the other side to stop spinning. */
const settleMs = 300

/** Each is a part of what is printed. */
export async function compareSources(
  options: SourceOptions,
): Promise<Readonly<Record<'training' | 'generation', readonly Figures[]>>> {
  const [runtime, model] = [packedRuntime(options.threads), await openModel(options.folder)]
  if (model.sourceMax === 0) throw new Error(`${model.name} has no encoder: --shape bart-base`)
  const training = options.peft === null ? [] : await trainings(runtime, model, options, options.peft)
  const generation = options.ctranslate2 === null ? [] : await generations(runtime, model, options, options.ctranslate2)
  return { training, generation }
}

/**
 * PEFT has a prefix in the decoder's self-attention alone, so the same is trained here; and at all three places in turn with transformers'
 * model over such prefixes, without PEFT.
 */
async function trainings(
  runtime: Runtime,
  model: Model,
  { folder, threads, rounds, precisions }: SourceOptions,
  python: string,
): Promise<readonly Figures[]> {
  const lengths = [
    '--batch',
    sourceTraining.batchSize,
    '--prefix-length',
    prefixLength,
    '--source-tokens',
    sourceTokens,
  ]
  const figures: Figures[] = []
  for (const [places, theirs] of [
    [['decoder_self'], 'peft'],
    [null, 'all'],
  ] as const) {
    for (const precision of precisions) {
      const bench = await openTrainingBench(runtime, model, { ...sourceTraining, places }, precision)
      const flags = [...lengths, '--targets', sourceTraining.targets, '--places', theirs].map(String)
      const compared = await comparePeft(bench, { folder, python, dtype: 'float32', threads, rounds, flags })
      await bench.dispose()
      figures.push({ places: places?.join() ?? 'all', form: bench.form, ...compared })
    }
  }
  return figures
}

/** All of `rows` sources from the first to the last token, each row with its own prefix, in turn with CTranslate2, which has none. */
async function generations(
  runtime: Runtime,
  model: Model,
  { folder, threads, rounds }: SourceOptions,
  python: string,
): Promise<readonly Figures[]> {
  const fast = await runtime.decodingForm(model.forwardGraph(runtime.segments), model.weights)
  const forms = [...new Set(['float32', fast])]
  const sides: Side[] = []
  for (const form of forms) sides.push(await openOurs(runtime, model, form))
  sides.push(await openEngine(runtime, model, fast))
  const flags = ['--model', folder, '--threads', threads, '--rows', rows]
  const lengths = ['--source-tokens', sourceTokens, '--new-tokens', newTokens]
  const rival = await openRival(python, 'translate.py', [...flags, ...lengths].map(String))
  sides.push(rivalSide(rival))
  const times = sides.map((): number[] => [])
  for (let round = -1; round < rounds; round++) {
    for (const [s, side] of sides.entries()) {
      const ms = await side.generate()
      await setTimeout(settleMs)
      if (round >= 0) times[s]?.push(ms) // Before, all warm up.
    }
  }
  for (const side of sides) await side.close()
  const theirs = times.at(-1) as number[]
  return sides.map(({ name }, s) => figuresOf(name, times[s] as number[], s < sides.length - 1 ? theirs : null))
}

function figuresOf(name: string, ms: readonly number[], theirs: readonly number[] | null): Figures {
  const each = {
    what: name,
    rows,
    secondsMedian: median(ms) / 1000,
    tokensPerSecond: (1000 * rows * newTokens) / median(ms),
  }
  if (theirs === null) return each
  const ratios = ms.map((mine, round) => (theirs[round] as number) / mine)
  return { ...each, ...spread('timesFaster', ratios) }
}

interface Side {
  readonly name: string
  /** In ms. */
  generate(): Promise<number>
  close(): Promise<void>
}

function rivalSide(rival: Rival): Side {
  return {
    name: `ctranslate2 ${String(rival.about['version'])} int8`,
    generate: async () => ((await rival.run(1))['generationsMs'] as readonly [number])[0],
    close: async () => rival.quit(),
  }
}

/** As CTranslate2 does it: all sources are read, then all rows go on side by side. */
async function openOurs(runtime: Runtime, model: Model, form: string): Promise<Side> {
  const random = new Random(2)
  const layout = layoutFor(model, rows, model.config.positionsMax)
  const session = await runtime.openSession(model.forwardGraph(), model.weights, layout, form, model.sourceGraph())
  const tokenizer = numbersTokenizer(model.config.vocabulary)
  const read = Array.from({ length: rows }, (_, row) => {
    const pasts = pastsOf(`prefix${row}`, drawPrefix(model, tokenizer, random), layout, model)
    const tokens = drawTokens(model, random, sourceTokens)
    return { row, past: pasts.decoder_self, source: { tokens, encoder: pasts.encoder_self, cross: pasts.cross } }
  })
  const opening = read.map(() => model.framing.opening([]))
  return {
    name: form,
    generate: async () => {
      const startMs = performance.now()
      for (const { row, past } of read) session.seed(row, past)
      await session.read(read)
      let logits = await session.extend(0, opening)
      for (let i = 1; i < newTokens; i++) logits = await session.extend(0, largest(session, logits))
      largest(session, logits)
      return performance.now() - startMs
    },
    close: () => session.dispose(),
  }
}

const drawTokens = ({ config }: Model, random: Random, count: number): number[] =>
  Array.from({ length: count }, () => 3 + random.below(config.vocabulary - 3))

/** As the service does it: a few sources in a step, beside the rows that decode already. */
async function openEngine(runtime: Runtime, model: Model, form: string): Promise<Side> {
  const random = new Random(2)
  const layout = layoutFor(model, rows, model.config.positionsMax)
  const forward = model.forwardGraph(runtime.segments)
  const session = await runtime.openSession(forward, model.weights, layout, form, model.sourceGraph())
  const tokenizer = numbersTokenizer(model.config.vocabulary)
  const prefixes = new Map(Array.from({ length: rows }, (_, i) => [`prefix${i}`, drawPrefix(model, tokenizer, random)]))
  const loadPrefix = async (id: string): Promise<Prefix> => prefixes.get(id) as Prefix
  const engine = new Engine({ session, tokenizer, loadPrefix, model, limits: limitsForSeeded })
  const prefixIds = [...prefixes.keys()]
  return {
    name: `${form}, through the engine`,
    generate: async () => {
      // Others in each round, or rows would find them read already; without begin and end, which the encoder reads too.
      const inputs = prefixIds.map(() => drawTokens(model, random, sourceTokens - 2).join(' '))
      const rate = await measureFullBatch(engine, { prefixIds, inputs, newTokens, open: rows })
      return (1000 * rows * newTokens) / rate
    },
    close: async () => {
      await engine.close()
      await session.dispose()
    },
  }
}

/** A text is the numbers of its tokens; none ends it, so that every run makes as many. */
function numbersTokenizer(vocabulary: number): Tokenizer {
  return {
    vocabulary,
    endOfText: -1,
    special: new Map(),
    sha256: '0'.repeat(64),
    encode: (text) => (text.match(/\d+/g) ?? []).map(Number),
    decode: (tokens) => tokens.map((token) => `${token} `).join(''),
  }
}

function drawPrefix(model: Model, tokenizer: Tokenizer, random: Random): Prefix {
  const { places, layers, heads, headDim, textStart } = shapeOn(
    model,
    { prefixLength, reparametrization: 0, variant: 'prefix' },
    null,
  )
  const belongs = { modelSha256: model.sha256, tokenizerSha256: tokenizer.sha256 }
  const shape = { prefixLength, textPositionStart: textStart, layers, heads, headDim }
  const draw = (): Float32Array =>
    Float32Array.from({ length: layers * heads * prefixLength * headDim }, () => 0.1 * random.normal())
  return {
    header: { attachment: 'decoder_self', places, ...shape, ...belongs, template: '{input}', training: {} },
    keys: draw(),
    values: draw(),
  }
}
