// The options of a training that are part of its graph against PyTorch on a runtime: smoothing, embeddings and infix.
import { test } from 'node:test'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { batchFeeds, parameterFeeds } from '../../src/train/feeds.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import { evaluationGraph, foldGraph, gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { assertClose, golden, toTensor, type GoldenTensor } from '../golden/gpt2.ts'
import { type GoldenRuntime, model } from './golden-runs.ts'

const { options, prefixLength, batch } = golden
const shapeOf = (variant: 'prefix' | 'embedding' | 'infix') => prefixShape(model.config, prefixLength, 0, variant)
const prefix = { keys: toTensor(golden.prefix['keys']!), values: toTensor(golden.prefix['values']!) }

/** The golden rows as examples: the last tokens of each are targets. */
export const optionExamples: readonly EncodedExample[] = batch.lengths.map((length, b) => {
  const width = batch.tokens.shape[1] as number
  const promptLength = batch.promptLengths[b] as number
  const all = batch.tokens.data.slice(b * width, b * width + length)
  return { tokens: all.slice(0, -1), targets: all.slice(promptLength), promptLength }
})

function assertGradients(
  outputs: Readonly<Record<string, Tensor>>,
  expected: Readonly<Record<string, GoldenTensor>>,
  tolerance: number,
): void {
  for (const [parameter, { data }] of Object.entries(expected)) {
    assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, data, tolerance)
  }
}

export function testGoldenOptions({ name, skip, tolerance, run, feeds }: GoldenRuntime): void {
  test(`${name}: smoothed losses and their prefix gradients agree with PyTorch, and held-out losses stay plain`, {
    skip,
  }, async () => {
    const graph = trainingGraph(model, shapeOf('prefix'), { smoothing: options.smoothing })
    const outputs = await run(graph, { ...feeds('sum'), ...prefix })
    const { tokenLosses, gradients } = options.expected.smoothing
    assertClose('token losses', outputs['tokenLosses']!.data, tokenLosses.data, tolerance)
    assertGradients(outputs, gradients, tolerance)
    const plain = await run(evaluationGraph(model, shapeOf('prefix')), { ...feeds('sum'), ...prefix })
    assertClose('plain losses', plain['tokenLosses']!.data, golden.expected.tokenLosses.data, tolerance)
  })

  test(`${name}: trained embeddings fold to the keys and values that PyTorch's model makes of them, with its gradient`, {
    skip,
  }, async () => {
    const { keys, values, loss, gradients } = options.expected.embedding
    const inputs = Float32Array.from(options.inputs.data)
    const parameters = parameterFeeds(new Map([['inputs', inputs]]), shapeOf('embedding'))
    const folded = await run(foldGraph(model, shapeOf('embedding')), parameters)
    assertClose('keys', folded['folded.keys']!.data, keys.data, tolerance)
    assertClose('values', folded['folded.values']!.data, values.data, tolerance)
    const outputs = await run(trainingGraph(model, shapeOf('embedding')), { ...feeds('sum'), ...parameters })
    const sum = Array.from(outputs['tokenLosses']!.data).reduce((a, b) => a + b, 0)
    assertClose('loss', [sum / batch.lengths.length], [loss], tolerance)
    assertGradients(outputs, gradients, tolerance)
  })

  test(`${name}: an infix is seen from the last token of the prompt on, with PyTorch's losses and gradients`, {
    skip,
  }, async () => {
    const outputs = await run(trainingGraph(model, shapeOf('infix')), { ...feeds('sum'), ...infixFeeds(), ...prefix })
    const { tokenLosses, gradients } = options.expected.infix
    assertClose('token losses', outputs['tokenLosses']!.data, tokenLosses.data, tolerance)
    assertGradients(outputs, gradients, tolerance)
    // Our own feeds leave out the last token of each row, which is a target alone.
    const own = { ...batchFeeds(optionExamples, shapeOf('infix'), 1), ...prefix }
    const measured = await run(evaluationGraph(model, shapeOf('infix')), own)
    assertClose('held-out losses', measured['tokenLosses']!.data, tokenLosses.data, tolerance)
  })
}

function infixFeeds(): Record<string, Tensor> {
  const int = ({ shape, data }: GoldenTensor): Tensor => ({ dtype: 'int32', shape, data: Int32Array.from(data) })
  return { positions: int(options.infix.positions), pastLengths: int(options.infix.pastLengths) }
}
