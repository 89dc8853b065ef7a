// Drafts in the shape of a larger model beside engines that have none: its steps are computed, and say what a trained model said.
import { Engine } from '../src/engine/engine.ts'
import { defaultLimits } from '../src/engine/limits.ts'
import { greedy } from '../src/engine/request.ts'
import type { Model } from '../src/model/model.ts'
import { PrefixRegistry } from '../src/prefix/registry.ts'
import { defaultTemplate, promptOf } from '../src/prefix/template.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { MemoryStore } from '../src/store/memory.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { rivalSide, takeTurns, type DecodeOptions, type Side } from './decode.ts'
import type { Task, TaskParts } from './drafts.ts'
import { type Script, ScriptedSession } from './scripted-session.ts'
import type { Figures } from './machine.ts'
import { storePrefixes } from './stored-prefixes.ts'

const prefixLength = 10
const newTokensMax = 120
/** Rows that make the scripts. */
const scriptRows = 16
/** Texts that were made with each prefix before the first round: a task that has been served for a while. */
const servedTexts = 40
/** Texts of each row in a round. */
const textsPerRound = 2

/** Texts that each number of rows takes. */
export const scriptsFor = (rows: number, rounds: number): number => rows * (servedTexts + (rounds + 1) * textsPerRound)

/** What the task's model says, greedily, token for token. */
export async function writeScripts(
  { runtime, model, tokenizer }: TaskParts,
  { prefix, records }: Task,
): Promise<Script[]> {
  const inputs = records.map(({ input }) => input)
  const layout = { ...model.config, rowsMax: scriptRows }
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout)
  const limits = { ...defaultLimits, waitingMax: inputs.length }
  const engine = new Engine({ session, tokenizer, loadPrefix: () => Promise.resolve(prefix), limits })
  const asked = { maxNewTokens: newTokensMax, stop: [], seed: 0, decoding: greedy, logprobs: false, topLogprobs: 0 }
  const scripts: Script[] = []
  for await (const event of engine.generate({ ...asked, prefixId: 'task', inputs }, new AbortController().signal)) {
    if (event.type !== 'done') continue
    event.outputs.forEach(({ topLogprobs = [] }, i) =>
      scripts.push({
        prompt: tokenizer.encode(promptOf(prefix.header.template, inputs[i] as string)),
        output: topLogprobs.map(({ id }) => id),
      }),
    )
  }
  await engine.close()
  await session.dispose()
  return scripts
}

interface ShapeParts {
  readonly runtime: Runtime
  readonly model: Model
  /** The task's: what it knows of the shape's vocabulary is enough. */
  readonly tokenizer: Tokenizer
  readonly task: Task
  readonly scripts: readonly Script[]
}

/** For so many rows: forms with drafts and without, in turn with the others, which read as much and are given no texts. */
export async function measureDraftTurns(
  parts: ShapeParts,
  rows: number,
  options: DecodeOptions,
): Promise<readonly Figures[]> {
  const ours: DraftedSide[] = []
  for (const form of options.forms)
    for (const draftTokensMax of [0, defaultLimits.draftTokensMax])
      ours.push(await draftedSide(parts, { form, rows, draftTokensMax }))
  const rivals: Side[] = []
  for (const rival of options.rivals) rivals.push(await rivalSide(rival, rows, options))
  const figures = await takeTurns(rows, { ours, rivals, others: [] }, options.rounds)
  return figures.map((each, i) => ({ ...each, ...(ours[i] && { tokensOfRow: ours[i].tokensOfRow() }) }))
}

interface DraftedSide extends Side {
  /** Tokens that a step made of a row. */
  tokensOfRow(): number
}

/** Ours, each row with a prefix of its own: milliseconds for a token of every row, while all rows decode. */
async function draftedSide(
  { runtime, model, tokenizer, task, scripts }: ShapeParts,
  { form, rows, draftTokensMax }: { readonly form: string; readonly rows: number; readonly draftTokensMax: number },
): Promise<DraftedSide> {
  const layout = { ...model.config, rowsMax: rows }
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout, form)
  const registry = new PrefixRegistry(new MemoryStore())
  const prefixIds = await storePrefixes(registry, model, tokenizer, { count: rows, prefixLength, seed: 1 })
  let [seconds, tokens, steps] = [0, 0, 0]
  const engine = new Engine({
    session: new ScriptedSession(session, scripts),
    tokenizer,
    loadPrefix: (id) => registry.load(id),
    limits: { ...defaultLimits, draftTokensMax },
    observer: {
      stepped: (step) => {
        if (step.phase !== 'decode' || step.rows !== rows) return
        seconds += step.seconds
        tokens += step.tokensMade
        steps += 1
      },
    },
  })
  let next = 0
  const serve = async (prefixId: string, records: Task['records']): Promise<void> => {
    const asked = { maxNewTokens: newTokensMax, stop: [], seed: 0, decoding: greedy, logprobs: false }
    for (const { input } of records) {
      const request = { ...asked, prefixId, inputs: [input], template: defaultTemplate }
      for await (const _ of engine.generate(request, new AbortController().signal));
    }
  }
  const serveAll = async (each: number): Promise<void> => {
    const from = next
    next += rows * each
    await Promise.all(
      prefixIds.map((id, row) => serve(id, task.records.slice(from + row * each, from + (row + 1) * each))),
    )
  }
  if (draftTokensMax > 0) await serveAll(servedTexts)
  else next += rows * servedTexts
  let [allTokens, allSteps] = [0, 0]
  return {
    name: draftTokensMax > 0 ? `${form}, drafts` : form,
    steps: async (count) => {
      ;[seconds, tokens, steps] = [0, 0, 0]
      await serveAll(textsPerRound)
      allTokens += tokens
      allSteps += steps
      // Steps make more tokens or fewer: the time of one is a mean.
      return Array.from({ length: count }, () => (1000 * seconds * rows) / tokens)
    },
    tokensOfRow: () => allTokens / allSteps / rows,
    close: async () => {
      await engine.close()
      await session.dispose()
    },
  }
}
