// Decoding on the device: the KV cache stays there, a step is one CUDA graph, and what comes back are tokens, or logits where they are asked for.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import { makeGraph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { CacheLayout, DecodeSession, Past, RowOutcome, SessionPart, TokenChoice } from '../runtime.ts'
import { Executable } from './executable.ts'
import { lower } from './lower.ts'
import { appendChoice, choicesInput, chosenToken, logprobsOutput, packedChoices, tokensOutput } from './lower-choice.ts'
import { at, type Form, type Lowering } from './lowering.ts'
import { ExecutableCache, type ProgramParts } from './program.ts'
import { intStruct, Storage, type KernelArgument } from './steps.ts'
import type { LoadedWeights } from './weights.ts'

/** Shapes whose captured graphs are kept: rows, where they begin, and how many tokens each gets. */
const executablesMax = 128
const threads = 128

/** Keys [layer, row, heads, headDim, position], values [layer, row, heads, position, headDim], room for all positions. */
export class CudaDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly lengths: Int32Array
  readonly #parts: ProgramParts
  readonly #form: Form
  readonly #weights: LoadedWeights
  readonly #graph: Graph
  /** New keys and values, layer by layer. */
  readonly #present: readonly Value[]
  readonly #executables: ExecutableCache
  readonly #keys: Storage
  readonly #values: Storage
  #staging = { address: 0n, bytes: 0 }
  #isDisposed = false

  constructor(parts: ProgramParts, forward: Graph, form: Form, weights: LoadedWeights, layout: CacheLayout) {
    this.#parts = parts
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
    // At once: want of memory shows at the start, and trainings can borrow them.
    for (const { op, attributes } of this.#graph.nodes) if (op === 'weight') weights.address(attributes.name, form)
    this.lengths = new Int32Array(layout.rowsMax)
    this.#executables = new ExecutableCache(parts.device, executablesMax)
    const { layers, heads, headDim, rowsMax, positionsMax } = layout
    const bytes = 4 * layers * rowsMax * heads * headDim * positionsMax
    const what = `half of the KV cache, ${rowsMax} rows × ${positionsMax} positions (lower ROWS_MAX for less),`
    const [keys, values] = [0, 1].map(() => {
      const address = parts.device.driver.allocate(bytes, what)
      // Masked positions are read by nobody, but a copy of a row may move them.
      parts.device.driver.fill(address, 0, bytes)
      return new Storage(bytes, 'resident', address)
    }) as [Storage, Storage]
    this.#keys = keys
    this.#values = values
  }

  seed(row: number, past: Past | null): void {
    this.lengths[row] = 0
    if (past === null) return
    const { layers, heads, positionsMax } = this.layout
    assert.ok(past.length <= positionsMax, `a past of ${past.length} positions of ${positionsMax}`)
    const bytes = past.keys.byteLength
    const { driver } = this.#parts.device
    const staging = this.#stage(2 * bytes)
    driver.upload(staging, past.keys)
    driver.upload(staging + BigInt(bytes), past.values)
    const storage = new Storage(2 * bytes, 'resident', staging)
    const given = [at({ storage, offset: 0 }), at({ storage, offset: bytes / 4 }), ...this.#cache()]
    this.#launch('cache_seed', layers * heads, [...given, { int: row }, { int: past.length }, this.#shape()])
    this.lengths[row] = past.length
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
  async choose(parts: readonly SessionPart[], choices: readonly (TokenChoice | null)[]): Promise<RowOutcome[]> {
    let row = 0
    return parts.flatMap((part) => this.#run(part, choices.slice(row, (row += part.tokens.length))))
  }

  #run({ start, tokens }: SessionPart, choices: readonly (TokenChoice | null)[]): RowOutcome[] {
    const batch = tokens.length
    const width = bucketOf(Math.max(...tokens.map((row) => row.length)))
    const feeds = this.#feeds(start, tokens, width)
    feeds[choicesInput] = packedChoices(choices)
    const executable = this.#executable(start, batch, width)
    const { driver } = this.#parts.device
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
    const { rowsMax, positionsMax } = this.layout
    assert.ok(tokens.every((row) => row.length > 0) && start + batch <= rowsMax)
    const ids = new Int32Array(batch * width)
    const positions = new Int32Array(batch * width)
    tokens.forEach((row, b) => {
      const length = this.lengths[start + b] as number
      assert.ok(
        length + row.length <= positionsMax,
        `row ${start + b}: ${length} + ${row.length} positions of ${positionsMax}`,
      )
      ids.set(row, b * width)
      // Padding behind a row's end is never looked at, but its position must exist.
      for (let t = 0; t < width; t++) positions[b * width + t] = Math.min(length + t, positionsMax - 1)
    })
    return {
      tokens: ids,
      positions,
      rows: Int32Array.from(tokens, (row, b) => b * width + row.length - 1),
      pastLengths: this.lengths.slice(start, start + batch),
      [countsInput]: Int32Array.from(tokens, (row) => row.length),
    }
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.lengths[row] = 0
  }

  /** Positions from `since` to below `until` of row `from` go to row `to`, which ends there; what it holds before them it keeps. */
  copy(from: number, to: number, since: number, until: number): void {
    assert.ok(since <= until && until <= (this.lengths[from] as number), `row ${from} to ${to}: ${since} to ${until}`)
    const { layers, heads } = this.layout
    const given = [...this.#cache(), { int: from }, { int: to }, { int: since }, { int: until }, this.#shape()]
    if (until > since && from !== to) this.#launch('cache_copy', layers * heads, given)
    this.lengths[to] = until
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    const { driver } = this.#parts.device
    this.#executables.clear()
    driver.synchronize()
    for (const { address } of [this.#keys, this.#values]) driver.free(address as bigint)
    if (this.#staging.bytes > 0) driver.free(this.#staging.address)
    this.#parts.weights.release(this.#weights)
  }

  #executable(start: number, batch: number, width: number): Executable {
    return this.#executables.get([start, batch, width].join(), () => {
      const bindings = new Map([
        ['B', batch],
        ['T', width],
        ['R', batch],
        ['M', this.layout.positionsMax],
      ])
      const logits = new Storage(4 * batch * this.vocabulary, 'arena')
      const kept = new Map([['logits', logits]])
      const options = { form: this.#form, bindings, weights: this.#weights, resident: this.#resident(start), kept }
      const lowered = lower(this.#graph, options, (l) => {
        this.#append(l, start, batch, width)
        appendChoice(l, { storage: logits, offset: 0, stride: this.vocabulary }, batch, this.vocabulary)
      })
      return new Executable(this.#parts.device, lowered, this.#parts.checked)
    })
  }

  /** Where the past of each layer begins, of the rows from `start`. */
  #resident(start: number): Map<string, bigint> {
    const { layers, rowsMax, heads, headDim, positionsMax } = this.layout
    const resident = new Map<string, bigint>()
    for (let l = 0; l < layers; l++) {
      const offset = BigInt(4 * (l * rowsMax + start) * heads * headDim * positionsMax)
      resident.set(`pastKey.${l}`, (this.#keys.address as bigint) + offset)
      resident.set(`pastValue.${l}`, (this.#values.address as bigint) + offset)
    }
    return resident
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
      const args = [at(key!), at(value!), ...strides, ...this.#cache(), ...rows, this.#shape()]
      l.blocks('cache_append', [batch * width, 1, 1], threads, args, 16 * numbers)
    }
  }

  #cache(): KernelArgument[] {
    return [this.#keys, this.#values].map((storage) => at({ storage, offset: 0 }))
  }

  /** CacheShape of the kernels. */
  #shape(): KernelArgument {
    const { layers, rowsMax, heads, headDim, positionsMax } = this.layout
    return { struct: intStruct([layers, rowsMax, heads, headDim, positionsMax]) }
  }

  #launch(name: string, blocks: number, args: readonly KernelArgument[]): void {
    this.#parts.device.launch(
      { kind: 'kernel', headDim: null, name, grid: [blocks, 1, 1], threads, arguments: args, bytes: 0 },
      (place) => (place === null ? 0n : (place.storage.address as bigint) + BigInt(4 * place.offset)),
    )
  }

  /** Memory for what is on its way into the cache. */
  #stage(bytes: number): bigint {
    if (bytes > this.#staging.bytes) {
      const { driver } = this.#parts.device
      driver.synchronize()
      if (this.#staging.bytes > 0) driver.free(this.#staging.address)
      this.#staging = { address: driver.allocate(bytes, 'a prefix on its way into the cache'), bytes }
    }
    return this.#staging.address
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
