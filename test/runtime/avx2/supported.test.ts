// What our machine code has kernels for, in both forms, and what it says of the rest.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { unsupported } from '../../../src/runtime/avx2/supported.ts'

type Build = (g: GraphBuilder, x: Value, other: Value) => Value

/** Of x and another, both [R, 16]. */
function reasonOf(build: Build, form: 'words' | 'float32' = 'float32'): string | null {
  const g = new GraphBuilder()
  return unsupported(makeGraph({ y: build(g, g.input('x', ['R', 16]), g.input('other', ['R', 16])) }), form)
}

const labels = (g: GraphBuilder): Value => g.input('labels', ['R'], 'int32')
const narrow = (g: GraphBuilder): Value => g.input('narrow', ['R', 12])
const frozen = (g: GraphBuilder, name: string): Value => g.weight(name, [16])

test('in float32 there are kernels for what a training has of its model', () => {
  for (const [what, build] of Object.entries<Build>({
    'a product with weights': (g, x) => g.linear(x, g.weight('w', [16, 3]), g.weight('b', [3])),
    'a product with what is made': (g, x) => g.linear(x, g.input('w', [16, 3]), null),
    'a sum': (g, x, other) => g.add(x, other),
    'a factor': (g, x) => g.scale(x, 2),
    'an error with a bias': (g, x) => g.crossEntropy([x, g.weight('t', [9, 16]), labels(g), g.weight('b', [9])]),
    'an error with a bias in another shape': (g, x) =>
      g.crossEntropy([x, g.weight('t', [9, 16]), labels(g), g.reshape(g.weight('b', [1, 9]), [9])]),
    'a norm': (g, x) => g.layerNorm(x, frozen(g, 'scale'), frozen(g, 'shift'), 1e-5),
    'rows in another order': (g, x) => g.transpose(g.reshape(x, ['R', 2, 8]), [1, 0, 2]),
  }))
    assert.equal(reasonOf(build), null, what)
})

test('what it has none for is named', () => {
  for (const [reason, build] of [
    ['tanh', (g, x) => g.tanh(x)],
    ['gelu of rows of 12 numbers', (g) => g.gelu(narrow(g))],
    ['add of two shapes', (g, x) => g.add(x, frozen(g, 'b'))],
    ['mul of two values', (g, x, other) => g.mul(x, other)],
    ['mul of two values', (g) => g.scale(narrow(g), 2)],
    ['linear with a bias that is not frozen', (g, x) => g.linear(x, g.weight('w', [16, 3]), g.input('b', [3]))],
    ['layerNorm that learns', (g, x) => g.layerNorm(x, g.input('scale', [16]), frozen(g, 'shift'), 1e-5)],
    [
      'layerNormGrad that learns',
      (g, x, other) => g.layerNormGrad([x, g.input('scale', [16]), frozen(g, 'shift')], other, 1e-5),
    ],
    ['crossEntropy with a table that is not frozen', (g, x) => g.crossEntropy([x, g.input('t', [9, 16]), labels(g)])],
    [
      'crossEntropy with a bias that is not frozen',
      (g, x) => g.crossEntropy([x, g.weight('t', [9, 16]), labels(g), g.input('b', [9])]),
    ],
    [
      'crossEntropyGrad with a bias that is not frozen',
      (g, x) => g.crossEntropyGrad([x, g.weight('t', [9, 16]), labels(g), g.input('b', [9])], g.input('ct', ['R']), 0),
    ],
    ['reshape of rows of 12 numbers', (g) => g.reshape(narrow(g), ['R', 1, 12])],
    ['split along axis 1', (g, x) => g.split(g.reshape(x, ['R', 2, 8]), 1, [1, 1])[0]!],
    ['concat along axis 1', (g, x) => g.concat([g.reshape(x, ['R', 2, 8]), g.reshape(x, ['R', 2, 8])], 1)],
    ['transpose 2,0,1', (g, x) => g.transpose(g.reshape(x, ['R', 2, 8]), [2, 0, 1])],
    ['transpose 0,1,3,2', (g, x) => g.transpose(g.reshape(x, ['R', 1, 2, 8]), [0, 1, 3, 2])],
  ] as const satisfies readonly (readonly [string, Build])[])
    assert.equal(reasonOf(build), reason)
})

test('past keys may be turned on their way into attention and nowhere else', () => {
  const attended = (shown: 'turned' | 'turned and used' | null): string | null => {
    const g = new GraphBuilder()
    const [q, k, v] = ['q', 'k', 'v'].map((name) => g.input(name, ['B', 'T', 16])) as [Value, Value, Value]
    const past = g.input('past', ['B', 2, 8, 8])
    const turned = g.transpose(past, [0, 1, 3, 2])
    const y = g.attention([q, k, v, turned, past, g.input('lengths', ['B'], 'int32')], 2)
    return unsupported(
      makeGraph({
        y,
        ...(shown === 'turned' && { turned }),
        ...(shown === 'turned and used' && { rows: g.gelu(turned) }),
      }),
      'float32',
    )
  }
  assert.equal(attended(null), null)
  assert.equal(attended('turned'), 'transpose 0,1,3,2')
  assert.equal(attended('turned and used'), 'transpose 0,1,3,2')
})

test('gradients of past keys may be turned where nobody wants them as they were, and no others', () => {
  const turnedGradient = (output: number, isShown: boolean): string | null => {
    const g = new GraphBuilder()
    const [q, k, v, ct] = ['q', 'k', 'v', 'ct'].map((name) => g.input(name, ['B', 'T', 16])) as [
      Value,
      Value,
      Value,
      Value,
    ]
    const past = g.input('past', ['B', 2, 8, 8])
    const made = g.attentionGrad([q, k, v, past, past, g.input('lengths', ['B'], 'int32')], ct, 2)[output] as Value
    return unsupported(makeGraph({ turned: g.transpose(made, [0, 1, 3, 2]), ...(isShown && { made }) }), 'float32')
  }
  assert.equal(turnedGradient(3, false), null)
  assert.equal(turnedGradient(3, true), 'transpose 0,1,3,2')
  assert.equal(turnedGradient(4, false), 'transpose 0,1,3,2')
})

test('words are for serving: nothing that is not frozen is multiplied, and nothing is trained', () => {
  assert.equal(
    reasonOf((g, x) => g.linear(x, g.input('w', [16, 3]), null), 'words'),
    'linear with what is not frozen',
  )
  assert.equal(
    reasonOf((g, x, other) => g.geluGrad(x, other), 'words'),
    'geluGrad',
  )
  assert.equal(
    reasonOf((g) => g.linear(narrow(g), g.weight('w', [12, 3]), null), 'words'),
    'linear of 12 numbers',
  )
})
