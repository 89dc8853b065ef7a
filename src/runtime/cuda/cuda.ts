// The cuda runtime: graphs lowered to kernels and cuBLASLt products, each shape captured once as a CUDA graph, on an NVIDIA GPU.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Weights } from '../../tensor/weights.ts'
import type { CacheLayout, ChosenToken, Runtime, TokenChoice } from '../runtime.ts'
import type { ResidentTraining } from '../training.ts'
import { chooseTokens } from './chooser.ts'
import { CudaDecodeSession } from './decode-session.ts'
import { Device, type DeviceOptions } from './device.ts'
import { timeProducts } from './product-times.ts'
import { CudaProgram } from './program.ts'
import { CudaSourceReader } from './source-reader.ts'
import { forms, type Form } from './steps.ts'
import { DeviceTrainables } from './trainables.ts'
import { CudaTrainingProgram } from './training-program.ts'
import { WeightExchange, type ExchangeOptions } from './weight-exchange.ts'
import { DeviceWeights, loadFrozen } from './weights.ts'

export interface CudaOptions extends DeviceOptions {
  /** Looks in every run for kernels that write beyond their buffers or leave some unwritten; slow, for tests. */
  readonly checked?: boolean
  /** Weights shared with other processes. */
  readonly exchange?: ExchangeOptions
}

interface CudaTraining extends ResidentTraining {
  compile(graph: Graph, weights: Weights, form: string): Promise<CudaTrainingProgram>
}

export interface CudaRuntime extends Runtime {
  /** As logs and GET /readyz name it. */
  readonly description: string
  /** Of the device's memory, at most; 0 where its driver does not say. */
  readonly bytesPerSecond: number
  readonly forms: typeof forms
  readonly training: CudaTraining
  /** Free and all on the device, in bytes. */
  memory(): { readonly free: number; readonly total: number }
  /** Gives the device back: of whoever does not want it after all. */
  release(): void
  /** As a decode session chooses, from logits [choices.length, vocabulary] of the host. */
  choose(logits: Float32Array, choices: readonly TokenChoice[]): ChosenToken[]
  /** Milliseconds of each of `count` products of two square matrices of that size. */
  timeProducts(size: number, form: Form, count: number): number[]
  compile(graph: Graph, weights: Weights, form?: string): Promise<CudaProgram>
  openSession(
    forward: Graph,
    weights: Weights,
    layout: CacheLayout,
    form?: string,
    encoder?: Graph | null,
  ): Promise<CudaDecodeSession>
}

/** Throws `CudaUnavailable` with what the machine lacks. Nothing of NVIDIA's is loaded before. */
export function openCudaRuntime({ checked = false, exchange, ...options }: CudaOptions): CudaRuntime {
  const device = Device.open(options)
  const shared = exchange === undefined ? null : new WeightExchange(device.driver, exchange, options.onLost)
  if (shared !== null) device.confirm = () => shared.confirm()
  const weights = new DeviceWeights(device.driver, shared)
  const parts = { device, weights, checked }
  const { name, memoryBytes, architecture, bytesPerSecond } = device.facts
  return {
    name: 'cuda',
    description: `${name}, ${Math.round(memoryBytes / 2 ** 30)} GiB, compute capability ${architecture / 10}`,
    bytesPerSecond,
    forms,
    segments: 1,
    memory: () => device.driver.memory(),
    release: () => device.driver.release(),
    compile: async (graph, frozen, form = 'float32') =>
      new CudaProgram(parts, { graph, form: formOf(form), weights: weights.acquire(frozen) }),
    training: {
      hold: (state, adamw) => new DeviceTrainables(device.driver, state, adamw),
      compile: async (graph, frozen, form) =>
        new CudaTrainingProgram(parts, { graph, form: formOf(form), weights: weights.acquire(frozen) }),
    },
    choose: (logits, choices) => chooseTokens(parts, logits, choices),
    timeProducts: (size, form, count) => timeProducts(device, size, form, count),
    // Half the bytes of every frozen matrix, and the tensor cores.
    fastForm: async (_graph, frozen, wanted) => forms.find((form) => form === wanted) ?? nearestForm(frozen),
    decodingForm: async (_forward, frozen) => nearestForm(frozen),
    openSession: async (forward, frozen, layout, form = 'float32', encoder = null) => {
      const own = formOf(form)
      const session = (reader: CudaSourceReader | null): CudaDecodeSession =>
        new CudaDecodeSession(parts, { graph: forward, form: own, weights: weights.acquire(frozen) }, layout, reader)
      if (encoder === null) return session(null)
      const held = weights.acquire(frozen)
      loadFrozen(encoder, held, own)
      const program = new CudaProgram(parts, { graph: encoder, form: own, weights: held })
      return session(new CudaSourceReader(device, program, encoder, layout, own))
    },
  }
}

function formOf(form: string): Form {
  const known = forms.find((each) => each === form)
  assert.ok(known !== undefined, `the cuda runtime has no form ${form}`)
  return known
}

/** A checkpoint in float16 loses bits in bfloat16, every other one may have numbers that float16 has not. */
function nearestForm({ tensors }: Weights): Form {
  return [...tensors.values()].some(({ dtype }) => dtype === 'float16') ? 'float16' : 'bfloat16'
}
