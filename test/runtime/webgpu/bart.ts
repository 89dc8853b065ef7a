// A model with an encoder on the GPU: what rows have read, alone, shared and copied, they see as on the CPU.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { layoutFor } from '../../../src/engine/played.ts'
import type { Graph } from '../../../src/graph/graph.ts'
import { openModel } from '../../../src/model/model.ts'
import { createOnnxRuntime } from '../../../src/runtime/onnx/onnx.ts'
import type { Past } from '../../../src/runtime/runtime.ts'
import { encoderLayers } from '../../../src/runtime/source-feeds.ts'
import { bartFolder } from '../../golden/bart.ts'
import { assertClose } from '../../golden/gpt2.ts'
import { testWebgpu } from './runtimes.ts'

const model = await openModel(`${bartFolder}/model`)
const { layers, heads, headDim } = model.config
const layersOfEncoder = encoderLayers(model.sourceGraph() as Graph)

function pastOf(length: number, scale: number, count = layers): Past {
  const numbers = (sign: number): Float32Array =>
    Float32Array.from({ length: count * heads * length * headDim }, (_, i) => sign * scale * Math.sin(i))
  return { keys: numbers(1), values: numbers(-1), length }
}

test('rows that read sources, with prefixes and without, go on as on the CPU', { skip: testWebgpu.skip }, async () => {
  const answers: Float32Array[][] = []
  for (const runtime of [await testWebgpu.open(), createOnnxRuntime({ threads: 1 })]) {
    const layout = layoutFor(model, 4, 24)
    const forward = model.forwardGraph(runtime.segments)
    const session = await runtime.openSession(forward, model.weights, layout, 'float32', model.sourceGraph())
    const shared = { tokens: [5, 6, 7, 8], encoder: pastOf(2, 0.3, layersOfEncoder), cross: pastOf(3, 0.5) }
    const sources = [shared, { tokens: [9, 10], encoder: null, cross: null }, shared]
    sources.forEach((_, row) => session.seed(row, row === 0 ? pastOf(2, 0.4) : null))
    await session.read(sources.map((source, row) => ({ row, source })))
    const own = [(await session.extend(0, [[2], [2, 4], [2]])).slice()]
    session.copy(1, 3, 0, session.lengths[1] as number)
    own.push((await session.extend(2, [[11], [12]])).slice())
    answers.push(own)
    await session.dispose()
  }
  const [device, host] = answers as [Float32Array[], Float32Array[]]
  device.forEach((logits, i) => assertClose(`call ${i}`, logits, host[i] as Float32Array, 1e-5))
  assert.equal(device.length, 2)
})
