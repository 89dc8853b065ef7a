// The webgpu runtime: graphs lowered to ONNX and run by onnxruntime's WebGPU provider, weights and caches in the GPU's memory.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { Weights } from '../../tensor/weights.ts'
import type { CacheLayout, RowOutcome, Runtime, RowWanted } from '../runtime.ts'
import { describeAdapter } from './adapters.ts'
import { Chooser } from './chooser.ts'
import { decodingGraph, WebgpuDecodeSession } from './decode-session.ts'
import { Device, type DeviceOptions } from './device.ts'
import { PastStore } from './past-store.ts'
import { WebgpuProgram, type ProgramParts } from './program.ts'
import { WebgpuRowCache } from './row-cache.ts'
import { WebgpuSourceReader } from './source-reader.ts'
import { DeviceWeights } from './weights.ts'

export interface WebgpuRuntime extends Runtime {
  /** As logs and GET /readyz name it. */
  readonly description: string
  /** As a decode session chooses, from logits [wanted.length, vocabulary] of the host. */
  choose(logits: Float32Array, wanted: readonly RowWanted[]): Promise<RowOutcome[]>
}

export interface WebgpuOptions extends DeviceOptions {
  /** Hears that something asked for is not there. */
  readonly warn?: (message: string) => void
}

/** Throws `WebgpuUnavailable` where the provider finds no GPU that works. */
export async function openWebgpuRuntime({ warn = () => undefined, ...options }: WebgpuOptions): Promise<WebgpuRuntime> {
  const device = await Device.open(options)
  const parts = { device, weights: new DeviceWeights(device) }
  return {
    name: 'webgpu',
    description: describeAdapter(options.adapter),
    segments: 1,
    compile: async (graph, weights, form = 'float32') => {
      assertForm(form)
      return WebgpuProgram.open(parts, graph, parts.weights.acquire(weights))
    },
    choose: async (logits, wanted) => {
      const vocabulary = logits.length / wanted.length
      const there = await device.upload(logits, [wanted.length, vocabulary], 'logits')
      const chosen = await new Chooser(device, vocabulary).choose(there, wanted)
      there.dispose()
      return chosen
    },
    fastForm: async (_graph, _weights, wanted) => {
      if (wanted === undefined)
        warn('precision fast: the webgpu runtime has no form of 8 or 16 bits, this training is in float32')
      return 'float32'
    },
    decodingForm: async () => {
      warn('PRECISION=fast: the webgpu runtime has no form of 8 or 16 bits, it generates in float32')
      return 'float32'
    },
    openSession: async (forward, weights, layout, form = 'float32', encoder = null) => {
      assertForm(form)
      return openSession(parts, forward, weights, layout, encoder)
    },
  }
}

async function openSession(
  parts: ProgramParts,
  forward: Graph,
  weights: Weights,
  layout: CacheLayout,
  encoder: Graph | null,
): Promise<WebgpuDecodeSession> {
  const { device } = parts
  const open = (graph: Graph): Promise<WebgpuProgram> =>
    WebgpuProgram.open(parts, graph, parts.weights.acquire(weights), 'device')
  const program = await open(decodingGraph(forward))
  const pasts = new PastStore(device, layout)
  const vocabulary = (forward.outputs['logits'] as Value).shape[1] as number
  const session = {
    program,
    pasts,
    chooser: new Chooser(device, vocabulary),
    cache: new WebgpuRowCache(device, pasts, layout),
    reader: encoder && new WebgpuSourceReader(device, pasts, await open(encoder), encoder, layout),
  }
  return new WebgpuDecodeSession(session, vocabulary)
}

function assertForm(form: string): void {
  assert.equal(form, 'float32', `the webgpu runtime has no form ${form}`)
}
