// What drafts gain: texts of E2E records with and without them, by turns, as many at once as are asked for.
import type { Model } from '../src/model/model.ts'
import type { Prefix } from '../src/prefix/prefix.ts'
import type { ReferencedInput } from '../src/prefix/references.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { Engine } from '../src/engine/engine.ts'
import { defaultLimits } from '../src/engine/limits.ts'
import type { Step } from '../src/engine/observer.ts'
import { type Decoding, greedy } from '../src/engine/request.ts'
import { drawn, readCorpus } from './e2e/corpus.ts'
import { smallPlans } from './e2e/plans.ts'
import { train } from './e2e/training.ts'
import { median, spread, type Figures } from './machine.ts'

const newTokensMax = 120
/** Records of each round. */
const recordsPerRound = 40
const sampled: Decoding = { ...greedy, strategy: 'sample', topP: 0.9 }

export interface TaskParts {
  readonly runtime: Runtime
  readonly model: Model
  readonly tokenizer: Tokenizer
}

/** A trained prefix, and records for it that no training has seen. */
export interface Task {
  readonly prefix: Prefix
  readonly records: readonly ReferencedInput[]
}

/** The study's base plan, trained in float32. */
export async function e2eTask(parts: TaskParts, data: string, records: number, checkpoints: string): Promise<Task> {
  const corpus = await readCorpus(data)
  const [plan] = smallPlans()
  if (plan === undefined) throw new Error('the study has no plan')
  const { prefix } = await train(parts, corpus, plan, checkpoints)
  return { prefix, records: drawn([...corpus.dev.records, ...corpus.test.records], records) }
}

interface Side {
  readonly engine: Engine
  readonly texts: Map<number, string>
  /** Tokens for each second of each round. */
  readonly rates: number[]
  readonly steps: Step[]
  close(): Promise<void>
}

/** A line for each form, way of choosing and number of texts at once. */
export async function measureDrafts(
  parts: TaskParts,
  task: Task,
  {
    forms,
    atOnce,
    rounds,
  }: { readonly forms: readonly string[]; readonly atOnce: readonly number[]; readonly rounds: number },
): Promise<Figures[]> {
  const figures: Figures[] = []
  for (const form of forms) {
    for (const decoding of [greedy, sampled]) {
      for (const clients of atOnce) figures.push(await compare(parts, task, { form, decoding, clients, rounds }))
    }
  }
  return figures
}

interface Comparison {
  readonly form: string
  readonly decoding: Decoding
  readonly clients: number
  readonly rounds: number
}

async function compare(
  parts: TaskParts,
  task: Task,
  { form, decoding, clients, rounds }: Comparison,
): Promise<Figures> {
  const open = (draftTokensMax: number): Promise<Side> => openSide(parts, task, form, clients, draftTokensMax)
  const [without, withDrafts] = [await open(0), await open(defaultLimits.draftTokensMax)]
  for (let round = 0; round <= rounds; round++) {
    // The one that goes first changes.
    for (const side of round % 2 === 0 ? [without, withDrafts] : [withDrafts, without])
      side.rates.push(await generateAll(side, task, decoding, clients, round * recordsPerRound))
  }
  await Promise.all([without.close(), withDrafts.close()])
  const times = withDrafts.rates.map((rate, i) => rate / (without.rates[i] as number))
  const decode = withDrafts.steps.filter(({ phase }) => phase === 'decode')
  const sum = (of: (step: Step) => number): number => decode.reduce((total, step) => total + of(step), 0)
  return {
    model: parts.model.name,
    form,
    choice: decoding.strategy,
    atOnce: clients,
    tokensPerSecondWithout: median(without.rates.slice(1)),
    tokensPerSecond: median(withDrafts.rates.slice(1)),
    ...spread('timesFaster', times.slice(1)),
    timesFasterFirst: times[0] as number,
    tokensOfRow: sum(({ tokensMade }) => tokensMade) / sum(({ rows }) => rows),
    takenPercent:
      (100 * sum(({ draftTokensTaken }) => draftTokensTaken)) /
      Math.max(
        1,
        sum(({ draftTokens }) => draftTokens),
      ),
    texts: without.texts.size,
    same: [...without.texts].filter(([i, text]) => withDrafts.texts.get(i) === text).length,
  }
}

async function openSide(
  { runtime, model, tokenizer }: TaskParts,
  { prefix }: Task,
  form: string,
  rowsMax: number,
  draftTokensMax: number,
): Promise<Side> {
  const layout = { ...model.config, rowsMax }
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout, form)
  const steps: Step[] = []
  const engine = new Engine({
    session,
    tokenizer,
    loadPrefix: () => Promise.resolve(prefix),
    limits: { ...defaultLimits, draftTokensMax },
    observer: { stepped: (step) => void steps.push(step) },
  })
  const close = async (): Promise<void> => {
    await engine.close()
    await session.dispose()
  }
  return { engine, texts: new Map(), rates: [], steps, close }
}

/** Tokens for each second. */
async function generateAll(
  side: Side,
  { records }: Task,
  decoding: Decoding,
  clients: number,
  first: number,
): Promise<number> {
  let next = first
  let tokens = 0
  const startMs = performance.now()
  const client = async (): Promise<void> => {
    for (let i = next++; i < first + recordsPerRound; i = next++) {
      const asked = { prefixId: 'e2e', inputs: [(records[i] as ReferencedInput).input], maxNewTokens: newTokensMax }
      const rest = { stop: [], seed: 0, decoding, logprobs: false }
      for await (const event of side.engine.generate({ ...asked, ...rest }, new AbortController().signal)) {
        if (event.type !== 'done') continue
        tokens += event.usage.outputTokens
        side.texts.set(i, event.outputs[0]?.text ?? '')
      }
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  return (1000 * tokens) / (performance.now() - startMs)
}

/** Records that so many rounds take, and one before them, in which nothing is known. */
export const recordsOf = (rounds: number): number => (rounds + 1) * recordsPerRound
