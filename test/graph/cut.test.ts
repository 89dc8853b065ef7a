// Graphs of trainings cut around the frozen model: what lies where, and that the parts compute the whole.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { cutGraph, isHeavy, type CutGraph } from '../../src/graph/cut.ts'
import { inputsOf, makeGraph, type Graph } from '../../src/graph/graph.ts'
import type { Value } from '../../src/graph/ops.ts'
import type { Model } from '../../src/model/model.ts'
import { evaluate, type ReferenceWeights } from '../../src/runtime/reference/reference.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { foldGraph } from '../../src/train/graphs.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { referenceWeights } from '../train/golden-runs.ts'
import { supportsModel, supportsTurned } from './supported-nodes.ts'
import { bart, evaluationCase, gpt2, otherBart, seed, trainingCase, type MemberOptions } from './training-graphs.ts'

const weightsOf = new Map<Model, ReferenceWeights>()
for (const model of [gpt2, bart, otherBart]) weightsOf.set(model, await referenceWeights(model.weights))

/** Ops of a stage that compute something, each once, in the order of the alphabet. */
const opsOf = (graph: Graph | null): string[] =>
  [...new Set(graph?.nodes.map(({ op }) => op))]
    .filter((op) => op !== 'input' && op !== 'weight' && op !== 'constant')
    .toSorted()

const heavyOf = (graph: Graph | null) => graph?.nodes.filter(isHeavy) ?? []
const inputNames = (graph: Graph | null): string[] =>
  graph === null ? [] : inputsOf(graph).map(({ attributes }) => attributes.name)

function inStages({ whole, before, trunk, after }: CutGraph, feeds: Feeds, weights: ReferenceWeights) {
  const known: Record<string, Tensor> = { ...feeds }
  for (const stage of [before, trunk, after]) {
    if (stage === null) continue
    const own = Object.fromEntries(inputNames(stage).map((name) => [name, known[name] as Tensor]))
    Object.assign(known, evaluate(stage, own, weights))
  }
  return Object.fromEntries(Object.keys(whole.outputs).map((name) => [name, known[name] as Tensor]))
}

interface Expected {
  readonly before: readonly string[]
  readonly after: readonly string[]
}
const turns: Expected = { before: ['transpose'], after: ['transpose'] }
const masks: Expected = { before: ['mul', 'transpose'], after: ['mul', 'transpose'] }
const network: Expected = {
  before: ['linear', 'reshape', 'split', 'tanh', 'transpose'],
  after: ['add', 'concat', 'linear', 'mul', 'outer', 'reshape', 'sumTo', 'transpose'],
}
const maskedNetwork: Expected = {
  before: ['linear', 'mul', 'reshape', 'split', 'tanh', 'transpose'],
  after: network.after,
}
/** Networks of several places are joined before they are put in. */
const networks: Expected = {
  before: ['concat', ...network.before],
  after: ['add', 'concat', 'linear', 'mul', 'outer', 'reshape', 'split', 'sumTo', 'transpose'],
}

/** Of the trunk, with `more` of what a training adds. */
const gpt2Trunk = (...more: readonly string[]): string[] => [...commonTrunk, 'gelu', 'geluGrad', ...more].toSorted()
const bartTrunk = (...more: readonly string[]): string[] =>
  [...commonTrunk, 'crossAttention', 'crossAttentionGrad', 'reshape', ...more].toSorted()
const commonTrunk = [
  'add',
  'attention',
  'attentionGrad',
  'concat',
  'crossEntropy',
  'crossEntropyGrad',
  'gather',
  'layerNorm',
  'layerNormGrad',
  'linear',
  'scatterAdd',
  'split',
]
const exact = ['exactGelu', 'exactGeluGrad']
const several = ['joinRows', 'splitRows']

const trainings: readonly (readonly [string, Model, readonly MemberOptions[], Expected, string[]])[] = [
  ['keys and values', gpt2, [{}], turns, gpt2Trunk()],
  ['a network', gpt2, [{ network: 6 }], network, gpt2Trunk('reshape')],
  ['dropout on keys and values', gpt2, [{ dropout: true }], masks, gpt2Trunk()],
  ['dropout behind a network', gpt2, [{ network: 6, dropout: true }], maskedNetwork, gpt2Trunk()],
  ['an infix', gpt2, [{ variant: 'infix' }], turns, gpt2Trunk()],
  [
    'several members',
    gpt2,
    [{}, { network: 6, prefixLength: 3 }, { dropout: true, prefixLength: 7 }],
    maskedNetwork,
    gpt2Trunk('reshape', ...several),
  ],
  ['prefixes at all places of a BART', bart, [{}], turns, bartTrunk(...exact)],
  ['prefixes at one of its places', bart, [{ places: ['cross'] }], turns, bartTrunk(...exact)],
  [
    'prefixes at two of its places, with dropout',
    bart,
    [{ places: ['decoder_self', 'encoder_self'], dropout: true }],
    masks,
    bartTrunk(...exact),
  ],
  ['its three networks', bart, [{ network: 6 }], networks, bartTrunk(...exact)],
  ['a network at one of its places', bart, [{ network: 6, places: ['encoder_self'] }], network, bartTrunk(...exact)],
  [
    'members at different places',
    bart,
    [{ places: ['cross'] }, { network: 6, prefixLength: 3 }],
    networks,
    bartTrunk(...exact, ...several),
  ],
  ['a BART with scaled embeddings', otherBart, [{ network: 6 }], networks, bartTrunk('gelu', 'geluGrad', 'mul')],
]

for (const [what, model, members, expected, inTrunk] of trainings) {
  for (const smoothing of [0, 0.1]) {
    test(`${what}, smoothing ${smoothing}: the model is in the trunk, and the three parts are the whole (seed ${seed})`, () => {
      const { graph, feeds } = trainingCase(model, members, smoothing)
      const cut = cutGraph(graph, supportsModel)
      assert.ok(cut !== null)
      assert.deepEqual(
        { before: opsOf(cut.before), after: opsOf(cut.after) },
        { before: expected.before.toSorted(), after: expected.after },
      )
      assert.deepEqual(opsOf(cut.trunk), inTrunk)
      assert.deepEqual([heavyOf(cut.before).length, heavyOf(cut.after).length], [0, 0])
      assert.equal(heavyOf(cut.trunk).length, heavyOf(graph).length)
      assert.ok(cut.trunk.nodes.every(supportsModel))
      // Weights, tokens and their embeddings are the trunk's alone.
      for (const stage of [cut.before, cut.after]) {
        assert.ok(stage !== null && stage.nodes.every(({ op }) => op !== 'weight' && op !== 'gather'))
        assert.ok(inputsOf(stage).every(({ attributes }) => attributes.dtype === 'float32'))
      }
      const weights = weightsOf.get(model) as ReferenceWeights
      assert.deepEqual(inStages(cut, feeds, weights), evaluate(graph, feeds, weights))
    })
  }
}

for (const [what, model, options] of [
  ['GPT-2', gpt2, {}],
  ['an infix', gpt2, { variant: 'infix' }],
  ['BART', bart, {}],
  ['BART with one prefix', bart, { places: ['encoder_self'] }],
] as const) {
  test(`an evaluation of ${what} ends with the trunk (seed ${seed})`, () => {
    const { graph, feeds } = evaluationCase(model, options)
    const cut = cutGraph(graph, supportsModel)
    assert.ok(cut !== null && cut.after === null)
    assert.deepEqual(opsOf(cut.before), ['transpose'])
    assert.deepEqual(Object.keys(cut.trunk.outputs), ['tokenLosses'])
    const weights = weightsOf.get(model) as ReferenceWeights
    assert.deepEqual(inStages(cut, feeds, weights), evaluate(graph, feeds, weights))
  })
}

test('a trunk that turns past keys itself has trainings of keys and values, and of embeddings, to itself', () => {
  const embedding = [{ variant: 'embedding' }, {}] as const
  // Between its two passes over the model the embedding's keys are turned.
  for (const members of [[embedding[0]], embedding])
    assert.equal(cutGraph(trainingCase(gpt2, members).graph, supportsModel), null)
  for (const [model, members] of [
    [gpt2, [{}]],
    [gpt2, embedding],
    [bart, [{}]],
  ] as const) {
    const { graph, feeds } = trainingCase(model, members)
    const cut = cutGraph(graph, supportsTurned)
    assert.ok(cut !== null && cut.before === null && cut.after === null)
    const weights = weightsOf.get(model) as ReferenceWeights
    assert.deepEqual(inStages(cut, feeds, weights), evaluate(graph, feeds, weights))
  }
})

/** A model of one layer over what tanh makes of `x`. */
function small(build: (g: GraphBuilder, made: Value, hidden: Value) => Record<string, Value>): Graph {
  const g = new GraphBuilder()
  const made = g.tanh(g.input('x', ['B', 8]))
  return makeGraph(build(g, made, g.linear(made, g.weight('w', [8, 8]), null)))
}

test('nothing is cut without a model in it, nor inside of it', () => {
  const shape = prefixShape(gpt2.config, 4, 6)
  assert.equal(cutGraph(foldGraph(gpt2, shape), supportsModel), null)
  const inside = small((g, _made, hidden) => ({ y: g.gelu(g.tanh(hidden)) }))
  assert.equal(cutGraph(inside, supportsModel), null)
  const lacking = small((g, _made, hidden) => ({ y: g.gelu(hidden) }))
  assert.equal(
    cutGraph(lacking, (node) => node.op !== 'gelu' && supportsModel(node)),
    null,
  )
  assert.ok(cutGraph(lacking, supportsModel) !== null)
})

test('outputs may come from any part, and what crosses takes no name that is there', () => {
  const graph = small((g, made, hidden) => ({
    'carried.0': made,
    hidden,
    both: g.mul(made, g.tanh(hidden)),
    again: hidden,
    fed: g.input('carried.1', [2]),
  }))
  const cut = cutGraph(graph, supportsModel)
  assert.ok(cut !== null)
  assert.deepEqual(
    [cut.before, cut.trunk, cut.after].map((stage) => Object.keys(stage?.outputs ?? {}).toSorted()),
    [['carried.0'], ['again', 'hidden'], ['both', 'fed']],
  )
  assert.deepEqual(inputNames(cut.after).toSorted(), ['carried.0', 'carried.1', 'again'].toSorted())
  const unnamed = small((g, made, hidden) => ({
    y: g.mul(made, g.tanh(g.mul(hidden, g.input('carried.0', ['B', 8])))),
  }))
  const [first, second] = [cutGraph(unnamed, supportsModel)?.before, cutGraph(unnamed, supportsModel)?.trunk]
  assert.deepEqual(
    [Object.keys(first?.outputs ?? {}), Object.keys(second?.outputs ?? {})],
    [['carried.1'], ['carried.2']],
  )
})

test('a part that none of its inputs tells how long it is, is no part', () => {
  const graph = small((g, _made, hidden) => ({ y: hidden, z: g.tanh(g.constant(1, ['B'])) }))
  assert.equal(cutGraph(graph, supportsModel), null)
})
