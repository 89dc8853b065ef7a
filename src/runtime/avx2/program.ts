// Graphs run by machine code of our own: products of words with weights of ten bits, or all of it in float32.
import { bindDimensions } from '../dimensions.ts'
import type { Graph } from '../../graph/graph.ts'
import { sizeOf, float32, type Tensor } from '../../tensor/tensor.ts'
import type { Feeds, Program } from '../runtime.ts'
import { bindShape } from '../../graph/shape.ts'
import { emitAttention } from './kernels/attention.ts'
import { emitCrossEntropy, emitCrossEntropyGrad } from './kernels/cross-entropy-rows.ts'
import { emitAdd, emitExactGelu, emitGelu, emitScale } from './kernels/elementwise.ts'
import { emitExactGeluGrad, emitGeluGrad } from './kernels/gelu-gradients.ts'
import { emitLayerNormGrad, emitScatterAdd, emitSoftmaxGrad } from './kernels/gradient-rows.ts'
import { emitGemm } from './kernels/gemm.ts'
import { emitLane } from './kernels/lane.ts'
import { emitProduct } from './kernels/product.ts'
import { emitCopy, emitGather, emitLayerNorm, emitWords } from './kernels/rows.ts'
import { emitSoftmax } from './kernels/softmax-rows.ts'
import type { LoweringOptions } from './lowering.ts'
import { Executable } from './executable.ts'
import { inLargePages } from './large-pages.ts'
import { lower } from './lower.ts'
import { unsupported } from './supported.ts'
import { addressOf, type LaneFunction, MachineCode } from './machine-code.ts'
import type { KernelName } from './steps.ts'
import type { LoadedWeights, ProductForm } from './weights.ts'

/** Shapes whose steps are kept: how many rows, tokens and positions there are. */
const executablesMax = 256
const alignment = 64

/** The threads of a run are libuv's, which has so many for the whole process: those of a run that come later would find nothing left to do. */
export const poolThreads = (): number => Number(process.env['UV_THREADPOOL_SIZE']) || 4

/** One run at a time in a thread of JavaScript: two would only take the cores from each other. */
let turn: Promise<unknown> = Promise.resolve()

export interface Avx2Options {
  readonly threads: number
  /** `words` unless said. */
  readonly form?: ProductForm
  readonly appends?: boolean
  /** Told of each operation, which then runs by itself: a run takes longer so. */
  readonly watch?: KernelWatch | undefined
}

/** Milliseconds of an operation, its start and end with all threads included. */
export type KernelWatch = (kernel: KernelName, ms: number) => void

export class Avx2Program implements Program {
  readonly #graph: Graph
  readonly #weights: LoadedWeights
  readonly #options: LoweringOptions
  readonly #code: MachineCode
  readonly #lane: LaneFunction
  readonly #watch: KernelWatch | undefined
  readonly #executables = new Map<string, Executable>()
  #arena = new Uint8Array(0)
  #scratch: Uint8Array[] = []
  /** Of the run in progress: code reads them where they lie, which no collector sees. */
  readonly #held = new Set<Feeds>()

  /** `appends`: keys and values that causal attention makes are put behind the past that is fed, as far as it has room. */
  constructor(graph: Graph, weights: LoadedWeights, { threads, form = 'words', appends = false, watch }: Avx2Options) {
    this.#watch = watch
    const reason = unsupported(graph, form)
    if (reason !== null) throw new Error(`there is no kernel for ${reason}`)
    weights.load(graph, form)
    this.#graph = graph
    this.#weights = weights
    this.#options = { threads: Math.min(threads, poolThreads()), form, appends }
    const headDim = headDimOf(graph)
    this.#code = new MachineCode({
      lane: emitLane,
      gemm: (m) => emitGemm(m, 'byRow'),
      gemmByColumn: (m) => emitGemm(m, 'byColumn'),
      product: emitProduct,
      words: emitWords,
      layerNorm: emitLayerNorm,
      gather: emitGather,
      copy: emitCopy,
      gelu: emitGelu,
      exactGelu: emitExactGelu,
      add: emitAdd,
      scale: emitScale,
      geluGrad: emitGeluGrad,
      exactGeluGrad: emitExactGeluGrad,
      layerNormGrad: emitLayerNormGrad,
      scatterAdd: emitScatterAdd,
      softmaxRows: emitSoftmax,
      softmaxGradRows: emitSoftmaxGrad,
      crossEntropyRows: emitCrossEntropy,
      crossEntropyGradRows: emitCrossEntropyGrad,
      ...(headDim !== null && { attention: (m, c) => emitAttention(m, c, headDim) }),
    })
    this.#lane = this.#code.lane('lane')
  }

  /** Outputs are overwritten by the next run. */
  run(feeds: Feeds): Promise<Record<string, Tensor>> {
    const done = turn.then(() => this.#run(feeds))
    turn = done.catch(() => undefined)
    return done
  }

  async dispose(): Promise<void> {
    await turn
    this.#executables.clear()
    this.#code.dispose()
  }

  async #run(feeds: Feeds): Promise<Record<string, Tensor>> {
    const bindings = bindDimensions(this.#graph, feeds)
    const executable = this.#executable(bindings)
    const { arena, scratch } = executable.need
    if (this.#arena.byteLength < arena) this.#arena = aligned(arena)
    while (this.#scratch.length < this.#options.threads) this.#scratch.push(aligned(scratch))
    this.#scratch = this.#scratch.map((each) => (each.byteLength < scratch ? aligned(scratch) : each))
    const { buffer, byteOffset } = this.#arena
    for (const [name, offset] of executable.inputs) {
      const { data } = feeds[name] as Tensor
      new Int32Array(buffer, byteOffset + offset, data.length).set(data)
    }
    this.#held.add(feeds)
    const program = executable.prepare(Number(addressOf(this.#arena)), (name) => {
      const { data } = feeds[name] as Tensor
      // Of an array that V8 keeps on its own heap the address would move.
      void data.buffer
      return Number(addressOf(data))
    })
    try {
      if (this.#watch === undefined) await this.#inAllLanes(program)
      else await this.#oneByOne(executable, this.#watch)
    } finally {
      this.#held.delete(feeds)
    }
    const outputs: Record<string, Tensor> = {}
    for (const [name, value] of Object.entries(this.#graph.outputs)) {
      const shape = bindShape(value.shape, bindings)
      const offset = byteOffset + (executable.outputs.get(name) as number)
      outputs[name] = float32(new Float32Array(buffer, offset, sizeOf(shape)), shape)
    }
    return outputs
  }

  async #oneByOne(executable: Executable, watch: KernelWatch): Promise<void> {
    for (const [i, kernel] of executable.kernels.entries()) {
      const startMs = performance.now()
      await this.#inAllLanes(executable.alone(i))
      watch(kernel, performance.now() - startMs)
    }
  }

  /** Over once every thread is out of it: what is next may overwrite what they looked at. */
  async #inAllLanes(program: bigint): Promise<void> {
    const run = (memory: Uint8Array): Promise<void> =>
      new Promise((resolve, reject) =>
        this.#lane(program, addressOf(memory), (error) => (error === null ? resolve() : reject(error))),
      )
    await Promise.all(this.#scratch.map(run))
  }

  #executable(bindings: ReadonlyMap<string, number>): Executable {
    const key = [...bindings].join(' ')
    const known = this.#executables.get(key)
    this.#executables.delete(key)
    const executable = known ?? this.#make(bindings)
    this.#executables.set(key, executable)
    const [oldest] = this.#executables.keys()
    if (this.#executables.size > executablesMax) this.#executables.delete(oldest as string)
    return executable
  }

  #make(bindings: ReadonlyMap<string, number>): Executable {
    const lowered = lower(this.#graph, bindings, this.#weights, this.#options)
    const constants = Number(addressOf(this.#code.constants.numbers))
    return new Executable(lowered, (name) => this.#code.addressOf(name), constants)
  }
}

/** Less is not worth a call of the system. */
const largeBytes = 2 ** 23

/** So many bytes that begin where a line of the caches does. */
function aligned(bytes: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(bytes + alignment)
  if (bytes >= largeBytes) inLargePages(whole)
  const past = Number(addressOf(whole) % BigInt(alignment))
  return whole.subarray((alignment - past) % alignment).subarray(0, bytes)
}

/** Numbers of a head; null: the graph has no attention. */
function headDimOf(graph: Graph): number | null {
  for (const node of graph.nodes) {
    if (node.op === 'attention' || node.op === 'crossAttention')
      return (node.inputs[0].shape.at(-1) as number) / node.attributes.heads
  }
  return null
}
