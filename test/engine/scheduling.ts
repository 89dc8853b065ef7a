// Made-up sequences for the scheduler's tests, and a cache that holds what a session would.
import assert from 'node:assert/strict'
import type { Scheduler } from '../../src/engine/scheduler.ts'
import { type Batch, sequencesOf, type Sequence } from '../../src/engine/sequence.ts'
import type { Random } from '../../src/random/random.ts'
import type { Past, RowSource } from '../../src/runtime/runtime.ts'

export interface TestOptions {
  readonly prompt: number | readonly number[]
  /** Tokens to make. */
  readonly length?: number
  readonly client?: string
  readonly prefix?: number
  /** Tokens that an encoder is to read, of its own. */
  readonly source?: number
}

export class TestSequence implements Sequence {
  readonly id: number
  readonly prompt: readonly number[]
  readonly past: Past | null
  readonly source?: RowSource
  readonly seedKey: string
  readonly prefixId: string | null
  readonly client: string
  readonly length: number
  output: number[] = []
  state: Sequence['state'] = 'waiting'
  row = -1
  prefilled = 0

  constructor(id: number, { prompt, length = 9, client = '', prefix = 0, source = 0 }: TestOptions) {
    this.id = id
    this.prompt = typeof prompt === 'number' ? Array.from({ length: prompt }, (_, i) => 1000 * id + i) : prompt
    this.length = length
    this.client = client
    const sourceKey = source === 0 ? '' : `s${id}`
    if (source > 0)
      this.source = { tokens: Array.from({ length: source }, (_, i) => 1000 * id + i), encoder: null, cross: null }
    this.prefixId = prefix === 0 ? null : `p${prefix}`
    this.seedKey = (this.prefixId ?? '') + sourceKey
    this.past = prefix === 0 ? null : { keys: new Float32Array(), values: new Float32Array(), length: prefix }
  }

  /** What its row holds at most: the prefix's positions, the prompt, and all tokens made. */
  get expected(): readonly (number | string)[] {
    const prefix = Array.from({ length: this.past?.length ?? 0 }, () => this.seedKey)
    return [...prefix, ...this.prompt, ...this.output]
  }
}

/** Rows of tokens. Plays batches, and checks that each row then holds its sequence and nothing else. */
export class TestCache {
  readonly rows: (number | string)[][] = []
  /** Positions copied and tokens read so far. */
  copied = 0
  read = 0

  play(batch: Batch<TestSequence>, name: string): void {
    for (const { from, to, since, until } of batch.copies) {
      const source = this.rows[from] as (number | string)[]
      assert.ok(since <= until && until <= source.length, `${name}: ${from} to ${to}, ${since} to ${until}`)
      assert.deepEqual((this.rows[to] ?? []).slice(0, since), source.slice(0, since), `${name}: the same already`)
      this.rows[to] = source.slice(0, until)
      if (from !== to) this.copied += until - since
    }
    for (const row of batch.forgotten) {
      assert.ok(row >= batch.rows, name)
      this.rows[row] = []
    }
    for (const { row, seedKey, past } of batch.seeds) {
      this.rows[row] = Array.from({ length: past?.length ?? 0 }, () => seedKey)
    }
    for (const part of [batch.decode, batch.prefill]) {
      part?.sequences.forEach((sequence, i) => {
        assert.equal(sequence.row, part.start + i, `${name}: rows are neighbours`)
        assert.ok(sequence.row < batch.rows, name)
        const tokens = part.tokens[i] as readonly number[]
        assert.ok(tokens.length >= 1, name)
        this.read += tokens.length
        const row = this.rows[sequence.row] as (number | string)[]
        row.push(...tokens)
        const expected = [...sequence.expected, ...(part.every ? tokens.slice(1) : [])]
        assert.deepEqual(row, expected.slice(0, row.length), `${name}: row ${sequence.row} holds ${sequence.id}`)
        if (part === batch.decode) assert.equal(row.length, expected.length, `${name}: ${sequence.id} is complete`)
      })
    }
  }
}

/** Made-up tokens, each other than all before: what sequence `id` says after so many others. */
const tokenOf = (id: number, position: number): number => -(1000 * id + position) - 1

export function sample(scheduler: Scheduler<TestSequence>, sequence: TestSequence): void {
  if (sequence.state !== 'decoding') return
  sequence.output.push(tokenOf(sequence.id, sequence.output.length))
  if (sequence.output.length === sequence.length) scheduler.finish(sequence)
}

/** Up to three tokens, of which each is right more often than not. */
export function drafts(random: Random, { id, length, output }: TestSequence): number[] {
  const count = Math.min(random.below(4), length - output.length - 1)
  return Array.from({ length: count }, (_, i) => (random.next() < 0.7 ? tokenOf(id, output.length + i) : 0))
}

/** As many tokens as come true, and one more; what does not is taken back. */
export function sampleAll(scheduler: Scheduler<TestSequence>, batch: Batch<TestSequence>): void {
  for (const [i, sequence] of sequencesOf(batch).entries()) {
    const drafted = batch.decode?.every ? (batch.decode.tokens[i]?.slice(1) ?? []) : []
    for (const [k, draft] of [...drafted, null].entries()) {
      sample(scheduler, sequence)
      if (sequence.state !== 'decoding' || draft === null || sequence.output.at(-1) === draft) continue
      scheduler.retract(sequence, drafted.length - k)
      break
    }
  }
}

/** Runs one step with made-up tokens, and says what ran: `decode ids prefill ids`. */
export function step(scheduler: Scheduler<TestSequence>, pieceTokens?: number, cache?: TestCache): string {
  const batch = scheduler.next(pieceTokens)
  if (batch === null) return 'idle'
  cache?.play(batch, 'step')
  scheduler.advance(batch)
  for (const sequence of sequencesOf(batch)) sample(scheduler, sequence)
  const ids = (name: 'decode' | 'prefill'): string[] => {
    const part = batch[name]
    return part === null ? [] : [`${name} ${part.sequences.map(({ id }) => id).join()}`]
  }
  return [...ids('decode'), ...ids('prefill')].join(' ')
}
