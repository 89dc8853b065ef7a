// Decoding on the device: the KV cache stays there, a step is one CUDA graph, and what comes back are tokens, or logits where they are asked for.
import assert from 'node:assert/strict'
import { makeGraph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type {
  CacheLayout,
  DecodeSession,
  Past,
  RowOutcome,
  RowWanted,
  SessionPart,
  SourceRow,
  TokenChoice,
} from '../runtime.ts'
import { shiftOf, tokensAndPositions } from '../row-tokens.ts'
import type { Device } from './device.ts'
import { ExecutableCache, type Prepared, type ProgramParts } from './executable-cache.ts'
import type { Executable, StepTime } from './executable.ts'
import { appendChoice, changesInput, changesRoom, choicesInput, chosenToken } from './lower-choice.ts'
import { isChosenHere, logprobsOutput, packedChanges, packedChoices, tokensOutput } from './lower-choice.ts'
import { at, type Lowering } from './lowering.ts'
import { CudaRowCache } from './row-cache.ts'
import type { CudaSourceReader } from './source-reader.ts'
import { Storage } from './steps.ts'
import { loadFrozen } from './weights.ts'

/** Shapes whose captured graphs are kept: rows, where they begin, and how many tokens each gets. */
const executablesMax = 128
const threads = 128

export class CudaDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly tellsEvery = false
  readonly #device: Device
  /** New keys and values, layer by layer. */
  readonly #present: readonly Value[]
  readonly #executables: ExecutableCache
  readonly #cache: CudaRowCache
  /** null: the model has no encoder. */
  readonly #reader: CudaSourceReader | null
  /** By how much the position of a row's next token is less than its length. */
  readonly #shifts: Int32Array

  /** `prepared.graph` is the model's `forwardGraph`. */
  constructor(
    parts: ProgramParts,
    { graph: forward, form, weights }: Prepared,
    layout: CacheLayout,
    reader: CudaSourceReader | null = null,
  ) {
    this.#device = parts.device
    this.#reader = reader
    this.layout = layout
    const logits = forward.outputs['logits'] as Value
    const present = forward.outputs['present'] as Value
    assert.ok(present.node.op === 'concat' && present.node.inputs.length === 2 * layout.layers)
    // They go from the projection into the cache, and are never laid out for the host.
    this.#present = present.node.inputs
    const graph = makeGraph({ logits })
    this.vocabulary = logits.shape[1] as number
    // At once: want of memory shows at the start, and trainings can borrow them.
    loadFrozen(graph, weights, form)
    this.#executables = new ExecutableCache(parts, { graph, form, weights }, executablesMax)
    this.#cache = new CudaRowCache(parts.device, layout, form, 'KV cache')
    this.#shifts = new Int32Array(layout.rowsMax)
  }

  get lengths(): Int32Array {
    return this.#cache.lengths
  }

  seed(row: number, past: Past | null): void {
    this.#cache.seed(row, past)
    this.#shifts[row] = shiftOf(past)
  }

  read(rows: readonly SourceRow[]): Promise<void> {
    assert.ok(this.#reader !== null, 'the model has no encoder')
    return this.#reader.read(rows)
  }

  async extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    return this.step([{ start, tokens }])
  }

  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    const rows = await this.choose(
      parts,
      parts.flatMap(({ tokens }) => tokens.map(() => null)),
    )
    const logits = new Float32Array(rows.length * this.vocabulary)
    rows.forEach((row, i) => logits.set(row as Float32Array, i * this.vocabulary))
    return logits
  }

  /** One CUDA graph for each part: prompts and rows that decode have shapes of their own, and few graphs serve all pairs of them. */
  async choose(parts: readonly SessionPart[], wanted: readonly RowWanted[]): Promise<RowOutcome[]> {
    const choices = wanted.map((each) => (isChosenHere(each) ? each : null))
    let row = 0
    return parts.flatMap((part) => this.#run(part, choices.slice(row, (row += part.tokens.length))))
  }

  /** The time of every kernel and product of a greedy step of one part, on the device; what its rows hold is of no use afterwards. */
  time(part: SessionPart): StepTime[] {
    const { start, tokens } = part
    const greedy = { temperature: 0, topK: 0, topP: 1, uniform: 0 }
    this.#run(
      part,
      tokens.map(() => greedy),
    )
    return this.#executable(start, tokens.length, widthOf(tokens), 0).time()
  }

  #run({ start, tokens }: SessionPart, choices: readonly (TokenChoice | null)[]): RowOutcome[] {
    const batch = tokens.length
    const width = widthOf(tokens)
    const feeds = this.#feeds(start, tokens, width)
    const room = changesRoom(choices)
    feeds[choicesInput] = packedChoices(choices)
    feeds[changesInput] = packedChanges(choices, room)
    const executable = this.#executable(start, batch, width, room)
    const { driver } = this.#device
    const bytes = 4 * this.vocabulary
    const logits = choices.map((choice) => (choice === null ? new Float32Array(this.vocabulary) : null))
    const fetched = executable.execute(
      (name) => feeds[name] as Int32Array | Float32Array,
      () =>
        logits.forEach((row, b) => {
          if (row !== null) driver.download(row, executable.addressOf('logits') + BigInt(b * bytes))
        }),
    )
    tokens.forEach((row, b) => {
      this.lengths[start + b] = (this.lengths[start + b] as number) + row.length
    })
    const chosen = new Int32Array(fetched, executable.offsetOf(tokensOutput), batch)
    const logprobs = new Float32Array(fetched, executable.offsetOf(logprobsOutput), batch)
    return logits.map((row, b) => row ?? chosenToken(chosen, logprobs, b))
  }

  #feeds(
    start: number,
    tokens: readonly (readonly number[])[],
    width: number,
  ): Record<string, Int32Array | Float32Array> {
    const batch = tokens.length
    const { ids, positions } = tokensAndPositions({ start, tokens }, width, {
      layout: this.layout,
      lengths: this.lengths,
      shifts: this.#shifts,
    })
    return {
      tokens: ids,
      positions,
      rows: Int32Array.from(tokens, (row, b) => b * width + row.length - 1),
      pastLengths: this.lengths.slice(start, start + batch),
      ...(this.#reader && { crossLengths: this.#reader.cache.lengths.slice(start, start + batch) }),
      [countsInput]: Int32Array.from(tokens, (row) => row.length),
    }
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
    if (this.#executables.isDisposed) return
    this.#device.driver.synchronize()
    this.#executables.dispose()
    this.#cache.dispose()
    await this.#reader?.dispose()
  }

  /** `room` is that of `changesRoom`. */
  #executable(start: number, batch: number, width: number, room: number): Executable {
    return this.#executables.get([start, batch, width, room].join(), () => {
      const bindings = new Map([
        ['B', batch],
        ['T', width],
        ['R', batch],
        ['M', this.layout.positionsMax],
        ['C', this.layout.sourceMax ?? 0],
      ])
      const logits = new Storage(4 * batch * this.vocabulary, 'arena')
      const kept = new Map([['logits', logits]])
      const cross = this.#reader?.cache.resident('cross', start) ?? []
      const resident = new Map([...this.#cache.resident('past', start), ...cross])
      const finish = (l: Lowering): void => {
        this.#append(l, start, batch, width)
        appendChoice(l, { storage: logits, offset: 0, stride: this.vocabulary }, batch, this.vocabulary, room)
      }
      return { bindings, resident, residentForm: this.#cache.form, kept, finish }
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
function widthOf(tokens: readonly (readonly number[])[]): number {
  return 2 ** Math.ceil(Math.log2(Math.max(...tokens.map((row) => row.length))))
}

/** Without the axis that `stack` put before it: rows of the projection, wherever they lie. */
function projected(value: Value): Value {
  return value.node.op === 'reshape' ? value.node.inputs[0] : value
}
