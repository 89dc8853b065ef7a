// Decoding on the device: weights, prefixes and KV cache stay there, and what comes back are tokens, or logits where they are asked for.
import assert from 'node:assert/strict'
import { makeGraph, type Graph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { CacheLayout, DecodeSession, Past, RowOutcome, SessionPart, SourceRow, RowWanted } from '../runtime.ts'
import { shiftOf, tokensAndPositions } from '../row-tokens.ts'
import type { Chooser } from './chooser.ts'
import { ints, viewOf, type DeviceTensor, type OnnxFeeds } from './device.ts'
import type { PastStore } from './past-store.ts'
import type { WebgpuProgram } from './program.ts'
import { WebgpuRowCache } from './row-cache.ts'
import type { WebgpuSourceReader } from './source-reader.ts'

/** `forward` with its new keys and values one by one, as the cache takes them: outputs logits, and present.i of 2·layers. */
export function decodingGraph(forward: Graph): Graph {
  const present = forward.outputs['present'] as Value
  assert.ok(present.node.op === 'concat')
  const each = present.node.inputs.map((value, i): [string, Value] => [presentOutput(i), withoutAxis(value)])
  return makeGraph({ logits: forward.outputs['logits'] as Value, ...Object.fromEntries(each) })
}

export interface SessionParts {
  /** Computes a `decodingGraph`, its outputs on the device. */
  readonly program: WebgpuProgram
  readonly chooser: Chooser
  readonly pasts: PastStore
  readonly cache: WebgpuRowCache
  /** null: the model has no encoder. */
  readonly reader: WebgpuSourceReader | null
}

export class WebgpuDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly tellsEvery = false
  readonly #parts: SessionParts
  /** By how much the position of a row's next token is less than its length. */
  readonly #shifts: Int32Array
  #isDisposed = false

  constructor(parts: SessionParts, vocabulary: number) {
    this.#parts = parts
    this.layout = parts.cache.layout
    this.vocabulary = vocabulary
    this.#shifts = new Int32Array(this.layout.rowsMax)
  }

  get lengths(): Int32Array {
    return this.#parts.cache.lengths
  }

  seed(row: number, past: Past | null): void {
    this.#parts.cache.seed(row, past)
    this.#shifts[row] = shiftOf(past)
  }

  read(rows: readonly SourceRow[]): Promise<void> {
    const { reader } = this.#parts
    assert.ok(reader !== null, 'the model has no encoder')
    return reader.read(rows)
  }

  async extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    return this.step([{ start, tokens }])
  }

  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    const wanted = parts.flatMap(({ tokens }) => tokens.map(() => null))
    const rows = await this.choose(parts, wanted)
    const logits = new Float32Array(rows.length * this.vocabulary)
    rows.forEach((row, i) => logits.set(row as Float32Array, i * this.vocabulary))
    return logits
  }

  /** One run for each part: prompts and rows that decode are of different widths, and the GPU pads neither. */
  async choose(parts: readonly SessionPart[], wanted: readonly RowWanted[]): Promise<RowOutcome[]> {
    const outcomes: RowOutcome[] = []
    for (const part of parts) {
      const own = wanted.slice(outcomes.length, outcomes.length + part.tokens.length)
      outcomes.push(...(await this.#run(part, own)))
    }
    await this.#parts.cache.shrink()
    return outcomes
  }

  release(rows: readonly number[]): void {
    this.#parts.cache.release(rows)
    this.#parts.reader?.cache.release(rows)
  }

  copy(from: number, to: number, since: number, until: number): void {
    this.#parts.cache.copy(from, to, since, until)
    if (from === to) return
    this.#shifts[to] = this.#shifts[from] as number
    // Rows that begin alike have read the same.
    const sources = this.#parts.reader?.cache
    if (sources !== undefined && since === 0) sources.copy(from, to, 0, sources.lengths[from] as number)
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    const { cache, pasts, reader, program } = this.#parts
    cache.dispose()
    pasts.dispose()
    await reader?.dispose()
    await program.dispose()
  }

  async #run({ start, tokens }: SessionPart, wanted: readonly RowWanted[]): Promise<RowOutcome[]> {
    const { cache, chooser, program, reader } = this.#parts
    const batch = tokens.length
    const width = Math.max(...tokens.map((row) => row.length))
    const session = { layout: this.layout, lengths: this.lengths, shifts: this.#shifts }
    const { ids, positions } = tokensAndPositions({ start, tokens }, width, session)
    await cache.settle(Math.max(...tokens.map((row, b) => (this.lengths[start + b] as number) + row.length)))
    await reader?.cache.settle(0)
    const pasts = await pastFeeds('past', cache, start, batch)
    const crosses = reader && (await pastFeeds('cross', reader.cache, start, batch))
    const outputs = await program.runOnDevice({
      tokens: ints(ids, [batch, width]),
      positions: ints(positions, [batch, width]),
      rows: ints(
        tokens.map((row, b) => b * width + row.length - 1),
        [batch],
      ),
      ...pasts.feeds,
      ...crosses?.feeds,
    })
    pasts.giveBack()
    crosses?.giveBack()
    const made = this.#presentOf(outputs)
    const rows = tokens.map((_, b) => start + b)
    await cache.append({ rows, width, counts: tokens.map((row) => row.length), tensors: made })
    for (const tensor of made) tensor.dispose()
    const logits = outputs['logits'] as DeviceTensor
    const chosen = await chooser.choose(logits, wanted)
    logits.dispose()
    return chosen
  }

  /** [rows · width, heads·headDim] each. */
  #presentOf(outputs: Readonly<Record<string, DeviceTensor>>): DeviceTensor[] {
    const { layers, heads, headDim } = this.layout
    return Array.from({ length: 2 * layers }, (_, i) => {
      const tensor = outputs[presentOutput(i)] as DeviceTensor
      return viewOf(tensor, [tensor.size / (heads * headDim), heads * headDim])
    })
  }
}

/** Rows from `start` on, as inputs named `${name}Key.l` and `${name}Value.l`, with `${name}Lengths`. */
async function pastFeeds(
  name: string,
  cache: WebgpuRowCache,
  start: number,
  batch: number,
): Promise<{ readonly feeds: OnnxFeeds; readonly giveBack: () => void }> {
  const lengths = cache.lengths.slice(start, start + batch)
  const rows = await cache.rows(start, batch, Math.max(...lengths))
  const feeds: Record<string, DeviceTensor> = { [`${name}Lengths`]: ints(lengths, [batch]) }
  rows.forEach((tensor, i) => (feeds[`${name}${i % 2 === 0 ? 'Key' : 'Value'}.${i >> 1}`] = tensor))
  return { feeds, giveBack: () => cache.giveBack(start, rows) }
}

const presentOutput = (i: number): string => `present.${i}`

/** Without the axis that `stack` put before it. */
function withoutAxis(value: Value): Value {
  return value.node.op === 'reshape' ? value.node.inputs[0] : value
}
