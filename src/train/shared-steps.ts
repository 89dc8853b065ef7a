// Trainings over one model that go through it together: one forward and backward pass, each with its own data and prefix.
import assert from 'node:assert/strict'
import type { Model } from '../model/model.ts'
import type { Feeds, Runtime } from '../runtime/runtime.ts'
import type { TrainingOutputs, TrainingProgram, TrainingUpdate } from '../runtime/training.ts'
import { float32, int32, type Tensor } from '../tensor/tensor.ts'
import { gradientOf, scopeOf, sharedTrainingGraph, type GraphMember } from './graphs.ts'
import { parameterShapes, type PrefixShape } from './parameters.ts'
import { isEncoderFrozen, SourceMemory } from './source-memory.ts'

/**
 * Positions of one step; trainings beyond that take steps of their own. Few rows leave a processor waiting for weights and gain
 * from company; with more of them activations leave its caches, and company costs (measured: docs/decisions/0008).
 */
const stepPositionsMax = 640
/** Of the activations that kept programs hold on to; the least recently used goes first. */
const keptBytesMax = 3 * 2 ** 30
/** What a position's forward and backward pass keep for each layer, in vectors of the model's width: measured for GPT-2 124M, its head's share included. */
const vectorsPerLayer = 45
/** The same of a position that was encoded before: keys and values, as they are made and by head. */
const encodedVectorsPerLayer = 4
/** Those that are ready wait for the others so long: they may be measuring, or writing a checkpoint. */
const waitMsMax = 100

export interface StepKind extends GraphMember {
  /** Of labels. Only trainings with the same smoothing and form go together. */
  readonly smoothing: number
  /** The runtime's, of products with frozen weights. */
  readonly form: string
}

export interface StepOutputs {
  /** −log p of each target token, in the order of the feeds' labels. */
  readonly tokenLosses: Float32Array
  /** By `gradientOf` the parameter; none where they went into an update. */
  readonly gradients: Readonly<Record<string, Tensor>>
  /** Before clipping; null where no optimizer step was taken. */
  readonly gradientNorm: number | null
}

/** What becomes of the gradients of trainables that the runtime holds. */
export type MemberUpdate = Omit<TrainingUpdate, 'places'>

/** A training's place in the steps. */
export interface StepMember {
  /** `feeds` are those of `trainingGraph`, without the trainables where there is an update of them. */
  run(feeds: Feeds, update?: MemberUpdate | null): Promise<StepOutputs>
  leave(): void
}

interface Kept {
  readonly program: TrainingProgram
  /** The most that a step of it came to. */
  bytes: number
}

interface Request {
  readonly kind: StepKind
  readonly positions: number
  /** Of the activations, as estimated. */
  readonly bytes: number
  /** Kinds that are equal give programs that can be exchanged. */
  readonly key: string
  readonly feeds: Feeds
  /** null: gradients go back to the member. */
  readonly update: MemberUpdate | null
  /** Places are numbered: members of a kind always stand in the same order, for which a runtime may have prepared. */
  readonly place: number
  readonly resolve: (outputs: StepOutputs) => void
  readonly reject: (error: unknown) => void
}

/**
 * What a member gets does not depend on who else is in the step: rows go through products and norms one by one, and attention
 * is each member's own. See docs/decisions/0008 for where that holds to the last bit.
 */
export class SharedSteps {
  readonly #runtime: Runtime
  readonly #model: Model
  /** Least recently used first: a Map keeps the order in which keys were set. */
  readonly #programs = new Map<string, Kept>()
  readonly #sources = new Map<string, SourceMemory>()
  readonly #pending: Request[] = []
  #members = 0
  #places = 0
  #timer: NodeJS.Timeout | null = null
  #running = false

  constructor(runtime: Runtime, model: Model) {
    this.#runtime = runtime
    this.#model = model
  }

  /** The sources of trainings whose places leave the encoder alone, kept as long as anybody has a place; null: it has to read them in each step, or there is none. */
  sourcesOf(shape: PrefixShape, form: string): SourceMemory | null {
    if (!isEncoderFrozen(this.#model, shape)) return null
    const memory = this.#sources.get(form) ?? new SourceMemory(this.#runtime, this.#model, form)
    this.#sources.set(form, memory)
    return memory
  }

  /** Trainings that have a place. */
  get members(): number {
    return this.#members
  }

  join(kind: StepKind): StepMember {
    this.#members += 1
    const place = this.#places++
    let here = true
    return {
      run: (feeds, update = null) =>
        new Promise((resolve, reject) => {
          assert.ok(here, 'a training that left takes no more steps')
          const positions = (feeds['tokens']?.data.length ?? 0) + (feeds['source.tokens']?.data.length ?? 0)
          const key = `${JSON.stringify(kind)}${update === null ? '' : ' with its update'}`
          const encoded = (feeds['source.hidden']?.data.length ?? 0) / this.#model.config.width
          const bytes = this.#bytesOf(positions, vectorsPerLayer) + this.#bytesOf(encoded, encodedVectorsPerLayer)
          const request = { kind, key, feeds, update, place, positions, bytes }
          this.#pending.push({ ...request, resolve, reject })
          this.#wake()
        }),
      leave: () => {
        if (!here) return
        here = false
        this.#members -= 1
        this.#wake()
        if (this.#members === 0) void this.#forgetAll()
      },
    }
  }

  /** Runs what is pending once everybody is ready, or has been waited for. */
  #wake(): void {
    if (this.#running || this.#pending.length === 0) return
    if (this.#pending.length >= this.#members) void this.#run()
    else this.#timer ??= setTimeout(() => void this.#run(), waitMsMax)
  }

  async #run(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#running = true
    const requests = this.#pending.splice(0)
    const sortOf = ({ kind: { smoothing, form }, update }: Request): string => `${smoothing} ${form} ${update === null}`
    for (const sort of new Set(requests.map(sortOf))) {
      const together = requests.filter((request) => sortOf(request) === sort)
      // Members of a kind can stand for each other: in order, fewer programs are needed.
      const inOrder = together.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.place - b.place))
      for (const fitting of packed(inOrder)) await this.#runTogether(fitting)
    }
    this.#running = false
    this.#wake()
  }

  async #runTogether(requests: readonly Request[]): Promise<void> {
    try {
      const program = await this.#programFor(requests)
      const updates = requests.flatMap(({ kind, update }, m) => {
        const scope = scopeOf(m, requests.length)
        return update === null ? [] : [{ ...update, places: placesOf(kind, scope) }]
      })
      const answer = await program.run(joinFeeds(requests.map(({ feeds }) => feeds)), updates)
      const parts = splitOutputs(answer, requests)
      requests.forEach(({ resolve }, m) => resolve(parts[m] as StepOutputs))
    } catch (error) {
      if (requests.length === 1) requests[0]?.reject(error)
      // Whose fault it was shows when each is alone; the others need not suffer from it.
      else for (const request of requests) await this.#runTogether([request])
    }
  }

  async #programFor(requests: readonly Request[]): Promise<TrainingProgram> {
    const key = requests.map((request) => request.key).join()
    const bytes = sumOfBytes(requests)
    const kept = this.#programs.get(key)
    this.#programs.delete(key)
    // Room is made before a new program takes it.
    await this.#forget(Math.max(0, keptBytesMax - bytes))
    const program = kept?.program ?? (await this.#compile(requests))
    this.#programs.set(key, { program, bytes: Math.max(bytes, kept?.bytes ?? 0) })
    return program
  }

  #bytesOf(positions: number, vectors: number): number {
    const { layers, width } = this.#model.config
    return positions * layers * vectors * width * 4
  }

  async #compile(requests: readonly Request[]): Promise<TrainingProgram> {
    const { kind, update } = requests[0] as Request
    const members = requests.map((request) => request.kind)
    const graph = sharedTrainingGraph(this.#model, members, kind.smoothing)
    if (update !== null) {
      const { training } = this.#runtime
      assert.ok(training !== undefined, 'an update of trainables that this runtime does not hold')
      return training.compile(graph, this.#model.weights, kind.form)
    }
    const program = await this.#runtime.compile(graph, this.#model.weights, kind.form)
    return {
      run: async (feeds) => ({ outputs: await program.run(feeds), gradientNorms: [] }),
      dispose: () => program.dispose(),
    }
  }

  async #forgetAll(): Promise<void> {
    const sources = [...this.#sources.values()]
    this.#sources.clear()
    await Promise.all([this.#forget(0), ...sources.map((each) => each.forget())])
  }

  async #forget(bytesMax: number): Promise<void> {
    for (const [key, { program }] of this.#programs) {
      if (sumOfBytes([...this.#programs.values()]) <= bytesMax) return
      this.#programs.delete(key)
      await program.dispose()
    }
  }
}

const sumOfBytes = (parts: readonly { readonly bytes: number }[]): number =>
  parts.reduce((sum, { bytes }) => sum + bytes, 0)

/** Requests in their order, in as many steps as they need. */
function packed(requests: readonly Request[]): Request[][] {
  const steps: Request[][] = []
  let positions = 0
  for (const request of requests) {
    positions += request.positions
    if (steps.length > 0 && positions <= stepPositionsMax) steps.at(-1)?.push(request)
    else {
      steps.push([request])
      positions = request.positions
    }
  }
  return steps
}

/** The trainables of a member in the graph of a step. */
function placesOf({ shape }: StepKind, scope: string): TrainingUpdate['places'] {
  const names = [...parameterShapes(shape).keys()]
  return new Map(names.map((name) => [name, { input: scope + name, gradient: scope + gradientOf(name) }]))
}

const ownInputs = new Set(['rows', 'labels', 'lossWeights'])

/** The feeds of one step of several trainings, from those of each. */
function joinFeeds(feeds: readonly Feeds[]): Feeds {
  if (feeds.length === 1) return feeds[0] as Feeds
  const joined: Record<string, Tensor> = {}
  const offsets: number[] = []
  let positions = 0
  feeds.forEach((own, m) => {
    offsets.push(positions)
    positions += own['tokens']?.data.length ?? 0
    for (const [name, tensor] of Object.entries(own)) {
      if (!ownInputs.has(name)) joined[scopeOf(m, feeds.length) + name] = tensor
    }
  })
  const all = (name: string): number[] =>
    feeds.flatMap((own, m) => {
      const values = Array.from(own[name]?.data ?? [])
      return name === 'rows' ? values.map((row) => row + (offsets[m] as number)) : values
    })
  const [rows, labels, weights] = [all('rows'), all('labels'), all('lossWeights')]
  return {
    ...joined,
    rows: int32(Int32Array.from(rows), [rows.length]),
    labels: int32(Int32Array.from(labels), [labels.length]),
    lossWeights: float32(Float32Array.from(weights), [weights.length]),
  }
}

function splitOutputs({ outputs, gradientNorms }: TrainingOutputs, requests: readonly Request[]): StepOutputs[] {
  const losses = outputs['tokenLosses']?.data as Float32Array
  let from = 0
  return requests.map(({ feeds }, m) => {
    const count = feeds['labels']?.data.length ?? 0
    const scope = scopeOf(m, requests.length)
    const own = Object.entries(outputs).filter(([name]) => name !== 'tokenLosses' && name.startsWith(scope))
    const tokenLosses = losses.subarray(from, (from += count))
    return {
      tokenLosses,
      gradients: Object.fromEntries(own.map(([name, tensor]) => [name.slice(scope.length), tensor])),
      gradientNorm: gradientNorms[m] ?? null,
    }
  })
}
