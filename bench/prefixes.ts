// A full batch with prefixes drawn from a thousand stored ones beside the same with one: speed should not depend on it.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Engine } from '../src/engine/engine.ts'
import type { Model } from '../src/model/model.ts'
import { LoadingThread } from '../src/prefix/loading-thread.ts'
import { PrefixRegistry } from '../src/prefix/registry.ts'
import { Random } from '../src/random/random.ts'
import type { DecodeSession, Runtime } from '../src/runtime/runtime.ts'
import { openStore } from '../src/store/open.ts'
import { openTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { endless, inputsOfLength, limitsForSeeded, measureFullBatch, type FullBatch } from './full-batch.ts'
import { median, quantile, spread, type Figures } from './machine.ts'
import { prefixBytes, storePrefixes } from './stored-prefixes.ts'

export interface PrefixesOptions {
  readonly model: Model
  readonly folder: string
  readonly prefixes: number
  readonly rows: number
  readonly rounds: number
  readonly seed: number
  /** Of the sessions' products. */
  readonly form: string
}

const prefixLength = 10
const promptTokens = 32
/** Rows are left one by one, as in a service, not all in one step. */
const newTokens = { min: 16, max: 48 }
/** Requests of one side in one round, for each row: few, as what a machine's neighbours do changes within seconds. */
const requestsPerRow = 2
/** Requests that wait while the rows are taken, for each row: a row that is left finds the next one loaded. */
const waitingPerRow = 0.5
/** Of all prefixes, what the small pool holds; it has room for those in use three times over. */
const smallPoolShare = 0.1
const smallPoolRowsMin = 3
/** The pool's own bookkeeping aside. */
const slack = 1.01

/** One pool that holds all of them and one that does not, each in turn with one prefix alone. */
export async function measurePrefixes(runtime: Runtime, options: PrefixesOptions): Promise<Figures[]> {
  const { model, prefixes, rows, seed } = options
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-bench-prefixes-'))
  const open = (): Promise<DecodeSession> =>
    runtime.openSession(
      model.forwardGraph(runtime.segments),
      model.weights,
      { ...model.config, rowsMax: rows },
      options.form,
    )
  // An engine remembers what its rows hold, so each side has rows of its own.
  const sessions = { one: await open(), many: await open() }
  const loading = await LoadingThread.open(folder)
  try {
    const tokenizer = endless(await openTokenizer(options.folder))
    const registry = new PrefixRegistry(await openStore(folder))
    const ids = await storePrefixes(registry, model, tokenizer, { count: prefixes, prefixLength, seed })
    const held = Math.max(smallPoolRowsMin * rows, Math.round(smallPoolShare * prefixes))
    const parts = { sessions, tokenizer, loading, ids }
    return [
      { pool: 'all', ...(await comparePool(parts, prefixes, options)) },
      { pool: `${held}`, ...(await comparePool(parts, held, options)) },
    ]
  } finally {
    await Promise.all([sessions.one.dispose(), sessions.many.dispose(), loading.close()])
    await rm(folder, { recursive: true, force: true })
  }
}

interface Parts {
  readonly sessions: Readonly<Record<'one' | 'many', DecodeSession>>
  readonly tokenizer: Tokenizer
  /** As the service's engine has it. */
  readonly loading: LoadingThread
  readonly ids: readonly string[]
}

async function comparePool(parts: Parts, held: number, options: PrefixesOptions): Promise<Figures> {
  const { sessions, tokenizer, loading, ids } = parts
  const { model, rows, rounds, seed } = options
  const limits = { ...limitsForSeeded, prefixBytesMax: Math.ceil(slack * held * prefixBytes(model, prefixLength)) }
  const loadsMs: number[] = []
  const loadPrefix = async (id: string) => {
    const startMs = performance.now()
    const prefix = await loading.load(id)
    loadsMs.push(performance.now() - startMs)
    return prefix
  }
  const many = new Engine({ session: sessions.many, tokenizer, loadPrefix, limits })
  const one = new Engine({ session: sessions.one, tokenizer, loadPrefix: (id) => loading.load(id), limits })
  const random = new Random(seed)
  const count = requestsPerRow * rows
  const batch = (draw: () => string, same: Pick<FullBatch, 'inputs' | 'newTokens'>): FullBatch => ({
    prefixIds: Array.from({ length: count }, draw),
    ...same,
    open: Math.round((1 + waitingPerRow) * rows),
  })
  const any = (): string => ids[random.below(ids.length)] as string
  // A pool that has room for all of them is measured full, one that has not in the state it stays in.
  await measureFullBatch(many, { prefixIds: ids, inputs: ['a'], newTokens: 1, open: 2 * rows })
  const first = ids[0] as string
  const [ones, manys, ratios]: [number[], number[], number[]] = [[], [], []]
  loadsMs.length = 0
  for (let round = -1; round < rounds; round++) {
    // No prompt comes twice: rows with the same prefix and the same beginning would share the work of reading it, however many prefixes there are.
    const inputs = await inputsOfLength(tokenizer, random, { count, tokens: promptTokens })
    const length = (): number => newTokens.min + random.below(newTokens.max - newTokens.min + 1)
    const same = { inputs, newTokens: Array.from({ length: count }, length) }
    const single = (): Promise<number> =>
      measureFullBatch(
        one,
        batch(() => first, same),
      )
    const mixed = (): Promise<number> => measureFullBatch(many, batch(any, same))
    // By turns first and second: whoever comes second may find a machine that has slowed down.
    const mixedFirst = round % 2 === 0 ? await mixed() : null
    const alone = await single()
    const drawn = mixedFirst ?? (await mixed())
    if (round < 0) continue // Both warm up.
    ones.push(alone)
    manys.push(drawn)
    ratios.push(drawn / alone)
  }
  const sorted = loadsMs.toSorted((a, b) => a - b)
  return {
    model: model.name,
    form: options.form,
    prefixes: ids.length,
    rows,
    oneTokensPerSecond: median(ones),
    manyTokensPerSecond: median(manys),
    ...spread('ratio', ratios),
    loadsShare: sorted.length / (count * (rounds + 1)),
    ...(sorted.length > 0 ? { loadMsP50: quantile(sorted, 0.5), loadMsP99: quantile(sorted, 0.99) } : {}),
  }
}
