// Decoding on the device: the KV cache stays there, a step is one CUDA graph, and only logits come back.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import { makeGraph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { CacheLayout, DecodeSession, Past, SessionPart, SourceRow } from '../runtime.ts'
import { Executable } from './executable.ts'
import { lower } from './lower.ts'
import { at, type Form, type Lowering } from './lowering.ts'
import { ExecutableCache, type ProgramParts } from './program.ts'
import { CudaRowCache } from './row-cache.ts'
import type { CudaSourceReader } from './source-reader.ts'
import { Storage } from './steps.ts'
import type { LoadedWeights } from './weights.ts'

/** Shapes whose captured graphs are kept: rows, where they begin, and how many tokens each gets. */
const executablesMax = 128
const threads = 128

export class CudaDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly #parts: ProgramParts
  readonly #form: Form
  readonly #weights: LoadedWeights
  readonly #graph: Graph
  /** New keys and values, layer by layer. */
  readonly #present: readonly Value[]
  readonly #executables: ExecutableCache
  readonly #cache: CudaRowCache
  /** null: the model has no encoder. */
  readonly #reader: CudaSourceReader | null
  /** By how much the position of a row's next token is less than its length. */
  readonly #shifts: Int32Array
  #isDisposed = false

  constructor(
    parts: ProgramParts,
    forward: Graph,
    form: Form,
    weights: LoadedWeights,
    layout: CacheLayout,
    reader: CudaSourceReader | null = null,
  ) {
    this.#parts = parts
    this.#reader = reader
    this.#form = form
    this.#weights = weights
    this.layout = layout
    const logits = forward.outputs['logits'] as Value
    const present = forward.outputs['present'] as Value
    assert.ok(present.node.op === 'concat' && present.node.inputs.length === 2 * layout.layers)
    // They go from the projection into the cache, and are never laid out for the host.
    this.#present = present.node.inputs
    this.#graph = makeGraph({ logits })
    this.vocabulary = logits.shape[1] as number
    this.#executables = new ExecutableCache(parts.device, executablesMax)
    this.#cache = new CudaRowCache(parts.device, layout, 'KV cache')
    this.#shifts = new Int32Array(layout.rowsMax)
  }

  get lengths(): Int32Array {
    return this.#cache.lengths
  }

  seed(row: number, past: Past | null): void {
    this.#cache.seed(row, past)
    this.#shifts[row] = past === null ? 0 : past.length - (past.textStart ?? past.length)
  }

  read(rows: readonly SourceRow[]): Promise<void> {
    assert.ok(this.#reader !== null, 'the model has no encoder')
    return this.#reader.read(rows)
  }

  async extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    const batch = tokens.length
    const { rowsMax, positionsMax } = this.layout
    assert.ok(tokens.every((row) => row.length > 0) && start + batch <= rowsMax)
    const width = bucketOf(Math.max(...tokens.map((row) => row.length)))
    const ids = new Int32Array(batch * width)
    const positions = new Int32Array(batch * width)
    tokens.forEach((row, b) => {
      const length = this.lengths[start + b] as number
      assert.ok(
        length + row.length <= positionsMax,
        `row ${start + b}: ${length} + ${row.length} positions of ${positionsMax}`,
      )
      ids.set(row, b * width)
      const first = length - (this.#shifts[start + b] as number)
      // Padding behind a row's end is never looked at, but its position must exist.
      for (let t = 0; t < width; t++) positions[b * width + t] = Math.min(first + t, positionsMax - 1)
    })
    const feeds: Readonly<Record<string, Int32Array>> = {
      tokens: ids,
      positions,
      rows: Int32Array.from(tokens, (row, b) => b * width + row.length - 1),
      pastLengths: this.lengths.slice(start, start + batch),
      ...(this.#reader && { crossLengths: this.#reader.cache.lengths.slice(start, start + batch) }),
      [countsInput]: Int32Array.from(tokens, (row) => row.length),
    }
    const executable = this.#executable(start, batch, width)
    const fetched = executable.execute((name) => feeds[name] as Int32Array)
    tokens.forEach((row, b) => {
      this.lengths[start + b] = (this.lengths[start + b] as number) + row.length
    })
    return new Float32Array(fetched, executable.offsetOf('logits'), batch * this.vocabulary)
  }

  /** One CUDA graph for each part: prompts and rows that decode have shapes of their own, and few graphs serve all pairs of them. */
  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    const [first, ...others] = parts
    assert.ok(first !== undefined)
    if (others.length === 0) return this.extend(first.start, first.tokens)
    const logits = new Float32Array(parts.reduce((rows, { tokens }) => rows + tokens.length, 0) * this.vocabulary)
    let row = 0
    for (const { start, tokens } of parts) {
      logits.set(await this.extend(start, tokens), row * this.vocabulary)
      row += tokens.length
    }
    return logits
  }

  release(rows: readonly number[]): void {
    this.#cache.release(rows)
    this.#reader?.cache.release(rows)
  }

  copy(from: number, to: number, since: number, until: number): void {
    this.#cache.copy(from, to, since, until)
    if (from === to) return
    this.#shifts[to] = this.#shifts[from] as number
    // Rows that begin alike have read the same.
    const sources = this.#reader?.cache
    if (sources !== undefined && since === 0) sources.copy(from, to, 0, sources.lengths[from] as number)
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    const { driver } = this.#parts.device
    this.#executables.clear()
    driver.synchronize()
    this.#cache.dispose()
    await this.#reader?.dispose()
    this.#parts.weights.release(this.#weights)
  }

  #executable(start: number, batch: number, width: number): Executable {
    return this.#executables.get([start, batch, width].join(), () => {
      const bindings = new Map([
        ['B', batch],
        ['T', width],
        ['R', batch],
        ['M', this.layout.positionsMax],
        ['C', this.layout.sourceMax ?? 0],
      ])
      const cross = this.#reader?.cache.resident('cross', start) ?? []
      const resident = new Map([...this.#cache.resident('past', start), ...cross])
      const options = { form: this.#form, bindings, weights: this.#weights, resident }
      const lowered = lower(this.#graph, options, (l) => this.#append(l, start, batch, width))
      return new Executable(this.#parts.device, lowered, this.#parts.checked)
    })
  }

  /** New keys and values go into the cache once every layer has read it. */
  #append(l: Lowering, start: number, batch: number, width: number): void {
    const counts = new Storage(4 * batch, 'input')
    l.inputs.set(countsInput, counts)
    const lengths = { storage: l.inputs.get('pastLengths') as Storage, offset: 0 }
    const numbers = batch * width * this.layout.heads * this.layout.headDim
    for (let layer = 0; layer < this.layout.layers; layer++) {
      const [key, value] = [0, 1].map((half) => l.view(projected(this.#present[2 * layer + half] as Value)))
      const strides = [{ int: key!.stride }, { int: value!.stride }]
      const rows = [at(lengths), at({ storage: counts, offset: 0 }), { int: layer }, { int: start }, { int: width }]
      const args = [at(key!), at(value!), ...strides, ...this.#cache.arguments(), ...rows, this.#cache.shape()]
      l.blocks('cache_append', [batch * width, 1, 1], threads, args, 16 * numbers)
    }
  }
}

/** Beside those of the graph: how many of its new positions each row keeps. */
const countsInput = 'appended tokens'

/** Widths are powers of two, so that prompts of all lengths share a few graphs. */
function bucketOf(width: number): number {
  return 2 ** Math.ceil(Math.log2(width))
}

/** Without the axis that `stack` put before it: rows of the projection, wherever they lie. */
function projected(value: Value): Value {
  return value.node.op === 'reshape' ? value.node.inputs[0] : value
}
