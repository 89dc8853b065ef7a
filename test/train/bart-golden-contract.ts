// BART against PyTorch on some runtimes: logits, losses, the gradients of all three prefixes and of some of them.
import { test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../src/graph/graph.ts'
import { openModel, type Model } from '../../src/model/model.ts'
import { batchFeeds, lossWeight, sourceFeeds } from '../../src/train/feeds.ts'
import { encoderGraph, foldGraph, gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { shapeOn, type PrefixShape } from '../../src/train/parameters.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import { float32, int32, type Tensor } from '../../src/tensor/tensor.ts'
import { bartExamples, bartFolder, bartGolden as golden } from '../golden/bart.ts'
import { assertClose, toTensor } from '../golden/gpt2.ts'
import { inFloat64, type RunName, runsOf } from './golden-runs.ts'

export const bart = await openModel(`${bartFolder}/model`)
const model = bart
const other = await openModel(`${bartFolder}/model-other`)
const on = (reparametrization: number, attachments: readonly string[] | null = null, of: Model = model): PrefixShape =>
  shapeOn(of, { prefixLength: golden.prefixLength, reparametrization, variant: 'prefix' }, attachments)
export const [direct, network] = [on(0), on(golden.middle)]

/** What crosses from host to runtime in a training step, but for the parameters. */
export function feedsOf(shape: PrefixShape, name: RunName, reduction: 'sum' | 'mean'): Feeds {
  const feeds = {
    ...batchFeeds(bartExamples, shape, lossWeight(bartExamples, reduction)),
    ...sourceFeeds(bartExamples),
  }
  return name === 'reference' ? { ...feeds, lossWeights: inFloat64(feeds['lossWeights'] as Tensor) } : feeds
}
const tensorsOf = (group: Readonly<Record<string, { shape: readonly number[]; data: readonly number[] }>>): Feeds =>
  Object.fromEntries(Object.entries(group).map(([key, value]) => [key, toTensor(value)]))

export function testBart(names: readonly RunName[]): void {
  for (const { name, skip, tolerance, run } of runsOf(model, names)) {
    test(`${name}: losses and gradients of all three prefixes agree with PyTorch`, { skip }, async () => {
      for (const reduction of ['sum', 'mean'] as const) {
        const feeds = { ...feedsOf(direct, name, reduction), ...tensorsOf(golden.prefix) }
        const outputs = await run(trainingGraph(model, direct), feeds)
        assertClose('token losses', outputs['tokenLosses']!.data, golden.expected.tokenLosses.data, tolerance)
        for (const [parameter, expected] of Object.entries(golden.expected.gradients[reduction])) {
          assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
        }
      }
    })

    for (const { places, tokenLosses, gradients } of golden.expected.subsets) {
      test(`${name}: a prefix at ${places.join(' and ')} alone agrees with PyTorch`, { skip }, async () => {
        const shape = on(0, places)
        const parameters = pick(golden.prefix, places)
        const outputs = await run(trainingGraph(model, shape), { ...feedsOf(shape, name, 'sum'), ...parameters })
        assertClose('token losses', outputs['tokenLosses']!.data, tokenLosses.data, tolerance)
        for (const [parameter, expected] of Object.entries(gradients)) {
          assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
        }
      })
    }

    for (const { places, tokenLosses, gradients } of golden.expected.subsets) {
      if (places.includes('encoder_self')) continue
      test(`${name}: at ${places.join(' and ')} it does so over sources that were read before`, { skip }, async () => {
        const shape = on(0, places)
        const noLengths = int32(Int32Array.of(0), [1])
        const { hidden } = await run(encoderGraph(model), { ...sourceFeeds(bartExamples), noLengths })
        const { 'source.tokens': _t, 'source.positions': _p, ...feeds } = feedsOf(shape, name, 'sum')
        const fed = { ...feeds, 'source.hidden': hidden as Tensor, ...pick(golden.prefix, places) }
        const outputs = await run(trainingGraph(model, shape, { encoded: true }), fed)
        assertClose('token losses', outputs['tokenLosses']!.data, tokenLosses.data, tolerance)
        for (const [parameter, expected] of Object.entries(gradients)) {
          assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
        }
      })
    }

    test(`${name}: three networks and the gradients of their fifteen parameters agree with PyTorch`, {
      skip,
    }, async () => {
      const parameters = tensorsOf(golden.network)
      const folded = await run(foldGraph(model, network), parameters)
      assertClose('keys', folded['folded.keys']!.data, golden.expected.reparametrized.keys.data, tolerance)
      assertClose('values', folded['folded.values']!.data, golden.expected.reparametrized.values.data, tolerance)
      const outputs = await run(trainingGraph(model, network), { ...feedsOf(network, name, 'sum'), ...parameters })
      for (const [parameter, expected] of Object.entries(golden.expected.reparametrized.gradients)) {
        assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
      }
    })

    test(`${name}: what the encoder leaves for cross-attention, and the logits after it, agree with PyTorch`, {
      skip,
    }, async () => {
      const source = golden.batch.sources[0] as readonly number[]
      const { layers, heads, headDim } = model.config
      const width = heads * headDim
      const cross = await run(model.sourceGraph() as Graph, {
        tokens: int32(Int32Array.from(source), [1, source.length]),
        positions: int32(
          Int32Array.from(source, (_, i) => i),
          [1, source.length],
        ),
        lengths: int32(Int32Array.of(source.length), [1]),
        pastLengths: int32(Int32Array.of(golden.prefixLength), [1]),
        ...pastFeeds('past', pick(golden.prefix, ['encoder_self'])),
      })
      assertClose('cross', cross['cross']!.data, golden.expected.cross.data, tolerance)

      const tokens = bartExamples[0]?.tokens as readonly number[]
      const feeds = {
        tokens: int32(Int32Array.from(tokens), [1, tokens.length]),
        positions: int32(
          Int32Array.from(tokens, (_, i) => i),
          [1, tokens.length],
        ),
        rows: int32(
          Int32Array.from(tokens, (_, i) => i),
          [tokens.length],
        ),
        pastLengths: int32(Int32Array.of(golden.prefixLength), [1]),
        ...pastFeeds('past', pick(golden.prefix, ['decoder_self'])),
        crossLengths: int32(Int32Array.of(golden.prefixLength + source.length), [1]),
        ...behind(pastFeeds('cross', pick(golden.prefix, ['cross'])), cross['cross']!, layers, width, heads),
      }
      const { logits } = await run(model.forwardGraph(), feeds)
      assertClose('logits', logits!.data, golden.expected.logits.data.slice(0, logits!.data.length), tolerance)
    })
  }

  for (const [which, folder, expected] of [
    ['bare', model, golden.expected.bareLogits],
    ['with scaled embeddings, the other gelu and weights in float16', other, golden.otherLogits],
  ] as const) {
    for (const { name, skip, tolerance, run } of runsOf(folder, names)) {
      test(`${name}: the logits of the model ${which} agree with PyTorch`, { skip }, async () => {
        const shape = { ...on(0, ['cross'], folder), prefixLength: 1 }
        const g = new GraphBuilder()
        const unseen = (layers: number) => ({
          layers: Array.from({ length: layers }, () => ({
            key: g.constant(0, [1, shape.heads, shape.headDim, 1]),
            value: g.constant(0, [1, shape.heads, 1, shape.headDim]),
          })),
          lengths: none,
        })
        const none = g.input('noLengths', [1], 'int32')
        const [decoder, cross, encoder] = folder.places.map(({ layers }) => unseen(layers))
        const read = (before: string, dim: string) => ({
          tokens: g.input(`${before}tokens`, ['B', dim], 'int32'),
          positions: g.input(`${before}positions`, ['B', dim], 'int32'),
        })
        const source = { ...read('source.', 'S'), lengths: g.input('source.lengths', ['B'], 'int32'), past: encoder! }
        const segment = { ...read('', 'T'), past: decoder!, cross: cross!, source }
        const { hidden, table, bias } = folder.decoder(g, {
          segments: [segment],
          rows: g.input('rows', ['R'], 'int32'),
        })
        const graph = makeGraph({ logits: g.linear(hidden, table, bias, { transposed: true }) })
        const fed = { ...batchFeeds(bartExamples, shape, 1), ...sourceFeeds(bartExamples) }
        const wanted = [
          'tokens',
          'positions',
          'rows',
          'source.tokens',
          'source.positions',
          'source.lengths',
          'noLengths',
        ]
        const { logits } = await run(graph, Object.fromEntries(wanted.map((each) => [each, fed[each] as Tensor])))
        assertClose('logits', logits!.data, expected.data, tolerance)
      })
    }
  }
}

/** The layers of some places, of keys and values over all. */
function pick(prefix: typeof golden.prefix, places: readonly string[]): Record<'keys' | 'values', Tensor> {
  const { heads, headDim } = model.config
  const size = heads * golden.prefixLength * headDim
  const of = (half: 'keys' | 'values'): Tensor => {
    let [from, layers] = [0, 0]
    const parts: number[] = []
    for (const place of model.places) {
      const to = from + place.layers * size
      if (places.includes(place.attachment)) {
        parts.push(...prefix[half].data.slice(from, to))
        layers += place.layers
      }
      from = to
    }
    return float32(Float32Array.from(parts), [layers, heads, golden.prefixLength, headDim])
  }
  return { keys: of('keys'), values: of('values') }
}

/** Each layer of keys and values [layers, heads, P, headDim] as a past of one row. */
function pastFeeds(name: string, { keys, values }: Record<'keys' | 'values', Tensor>): Record<string, Tensor> {
  const [layers, heads, length, headDim] = keys.shape as [number, number, number, number]
  const size = heads * length * headDim
  const feeds: Record<string, Tensor> = {}
  for (let l = 0; l < layers; l++) {
    const own = keys.data.slice(l * size, (l + 1) * size)
    const turned = Float32Array.from(own, (_, i) => {
      const [h, d, p] = [Math.floor(i / (headDim * length)), Math.floor(i / length) % headDim, i % length]
      return own[(h * length + p) * headDim + d] as number
    })
    feeds[`${name}Key.${l}`] = float32(turned, [1, heads, headDim, length])
    const value = Float32Array.from(values.data.slice(l * size, (l + 1) * size))
    feeds[`${name}Value.${l}`] = float32(value, [1, heads, length, headDim])
  }
  return feeds
}

/** The same pasts with what the encoder made behind them. */
function behind(
  pasts: Record<string, Tensor>,
  { data, shape }: Tensor,
  layers: number,
  width: number,
  heads: number,
): Record<string, Tensor> {
  const [count, headDim] = [shape[2] as number, width / heads]
  const feeds: Record<string, Tensor> = {}
  for (let l = 0; l < layers; l++) {
    for (const [s, half] of ['Key', 'Value'].entries()) {
      const before = pasts[`cross${half}.${l}`] as Tensor
      const P = before.shape[half === 'Key' ? 3 : 2] as number
      const M = P + count
      const size = heads * headDim * M
      const whole = data instanceof Float64Array ? new Float64Array(size) : new Float32Array(size)
      for (let h = 0; h < heads; h++) {
        for (let m = 0; m < M; m++) {
          for (let d = 0; d < headDim; d++) {
            const at = (length: number, position: number): number =>
              half === 'Key' ? (h * headDim + d) * length + position : (h * length + position) * headDim + d
            const made = ((2 * l + s) * count + (m - P)) * width + h * headDim + d
            whole[at(M, m)] = (m < P ? before.data[at(P, m)] : data[made]) as number
          }
        }
      }
      feeds[`cross${half}.${l}`] = float32(whole, half === 'Key' ? [1, heads, headDim, M] : [1, heads, M, headDim])
    }
  }
  return feeds
}
