// Rows with prefixes of their own through the engine, in turn with PEFT, which plays one prefix at a time.
import { setTimeout } from 'node:timers/promises'
import { Engine } from '../src/engine/engine.ts'
import type { Model } from '../src/model/model.ts'
import { PrefixRegistry } from '../src/prefix/registry.ts'
import { Random } from '../src/random/random.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { MemoryStore } from '../src/store/memory.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import { endless, inputsOfLength, limitsForSeeded, measureFullBatch } from './full-batch.ts'
import { median, spread, type Figures } from './machine.ts'
import { openPeft, type PeftProcess } from './peft-process.ts'
import { storePrefixes } from './stored-prefixes.ts'

export interface GenerationOptions {
  readonly model: Model
  readonly folder: string
  readonly rows: number
  readonly rounds: number
  readonly threads: number
  /** A Python with torch, transformers and peft. */
  readonly python: string
  /** Of PEFT's weights: float32 or bfloat16. */
  readonly dtype: string
  /** In which ours decodes. */
  readonly form: string
  /** PyTorch's name of what PEFT computes on; the CPU unless said. */
  readonly device?: string
  readonly prefixLength?: number
  readonly promptTokens?: number
  readonly newTokens?: number
  /** Whether a batch of PEFT's whose rows have one prefix is measured too; it is unless said. */
  readonly batch?: boolean
}

/** Unless said otherwise. */
export const generationLengths = { prefixLength: 10, promptTokens: 32, newTokens: 64 } as const
/** Rows that PEFT generates one after the other in a round: its rate does not depend on how many follow. */
const singlesPerRound = 4
/** For idle threads of the other side to stop spinning. */
const settleMs = 300

/** Tokens per second of ours, of PEFT's one row at a time, and of a batch of PEFT's whose rows all have one prefix. */
export async function compareGeneration(runtime: Runtime, options: GenerationOptions): Promise<Figures> {
  const { model, rows, rounds, device = 'cpu' } = options
  const { prefixLength, promptTokens, newTokens } = { ...generationLengths, ...options }
  const layout = { ...model.config, rowsMax: rows }
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout, options.form)
  const tokenizer = endless(await openTokenizer(options.folder))
  const registry = new PrefixRegistry(new MemoryStore())
  const prefixIds = await storePrefixes(registry, model, tokenizer, { count: rows, prefixLength, seed: 1 })
  const inputs = await inputsOfLength(tokenizer, new Random(1), { count: rows, tokens: promptTokens })
  const engine = new Engine({ session, tokenizer, loadPrefix: (id) => registry.load(id), limits: limitsForSeeded })
  const [single, batch] = await openRivals(options)
  const [ours, singles, batches]: [number[], number[], number[]] = [[], [], []]
  for (let round = -1; round < rounds; round++) {
    const mine = await measureFullBatch(engine, { prefixIds, inputs, newTokens, open: rows })
    await setTimeout(settleMs)
    const apart = await rateOf(single, singlesPerRound, newTokens)
    const together = batch && (await rateOf(batch, 1, newTokens))
    if (round < 0) continue // All warm up.
    ours.push(mine)
    singles.push(apart)
    if (together !== null) batches.push(together)
  }
  single.quit()
  batch?.quit()
  await session.dispose()
  return {
    model: model.name,
    rows,
    form: options.form,
    tokensPerSecond: median(ours),
    peftDtype: options.dtype,
    peftDevice: device,
    peftTokensPerSecond: median(singles),
    ...ratios('timesFaster', ours, singles),
    ...(batch && {
      peftSamePrefixTokensPerSecond: median(batches),
      ...ratios('timesSamePrefix', ours, batches),
    }),
    ...single.versions,
  }
}

/** One row a call with as many prefixes as rows, and all rows in one call with one prefix. */
async function openRivals(options: GenerationOptions): Promise<[PeftProcess, PeftProcess | null]> {
  const { folder, threads, dtype, python, rows, device = 'cpu', batch = true } = options
  const { prefixLength, promptTokens, newTokens } = { ...generationLengths, ...options }
  const flags = ['--model', folder, '--threads', String(threads), '--dtype', dtype, '--device', device]
  const lengths = ['--prompt-tokens', promptTokens, '--new-tokens', newTokens, '--prefix-length', prefixLength].map(
    String,
  )
  const open = (callRows: number, prefixes: number): Promise<PeftProcess> =>
    openPeft(python, 'peft_generate.py', [...flags, ...lengths, '--rows', `${callRows}`, '--prefixes', `${prefixes}`])
  // One after the other: both warm up.
  return [await open(1, rows), batch ? await open(rows, 1) : null]
}

async function rateOf(peft: PeftProcess, runs: number, newTokens: number): Promise<number> {
  const { generationsMs, rows } = (await peft.run(runs)) as { generationsMs: number[]; rows: number }
  await setTimeout(settleMs)
  return (1000 * rows * newTokens * runs) / generationsMs.reduce((sum, ms) => sum + ms, 0)
}

function ratios(name: string, ours: readonly number[], theirs: readonly number[]): Figures {
  return spread(
    name,
    ours.map((rate, i) => rate / (theirs[i] as number)),
  )
}
