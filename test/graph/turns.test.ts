// Transposes that move to the parts: where they end up, and that no number changes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { cutGraph } from '../../src/graph/cut.ts'
import { makeGraph } from '../../src/graph/graph.ts'
import type { AnyNode, Value } from '../../src/graph/ops.ts'
import { turnedInParts } from '../../src/graph/turns.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import { Random } from '../../src/random/random.ts'
import { float32 } from '../../src/tensor/tensor.ts'
import { referenceWeights } from '../train/golden-runs.ts'
import { supportsTurned } from './supported-nodes.ts'
import { bart, gpt2, seed, trainingCase } from './training-graphs.ts'

const isTurn = (node: AnyNode): boolean => node.op === 'transpose' && node.attributes.permutation.join() === '0,1,3,2'

for (const [what, model, members] of [
  ['keys and values', gpt2, [{}]],
  ['a network', gpt2, [{ network: 6 }]],
  ['embeddings', gpt2, [{ variant: 'embedding' }]],
  ['dropout and an infix', gpt2, [{ dropout: true, variant: 'infix' }]],
  ['networks of a BART', bart, [{ network: 6 }]],
  ['members', bart, [{ places: ['cross'], dropout: true }, { network: 6 }]],
] as const) {
  test(`${what}: past keys are turned where attention reads them and where their gradients are made (seed ${seed})`, async () => {
    const { graph, feeds } = trainingCase(model, members)
    const turned = turnedInParts(graph)
    const weights = await referenceWeights(model.weights)
    assert.deepEqual(evaluate(turned, feeds, weights), evaluate(graph, feeds, weights))
    const turns = turned.nodes.filter(isTurn)
    const read = new Set<AnyNode>()
    for (const node of turned.nodes) {
      const isAttention = node.op.startsWith('attention') || node.op.startsWith('crossAttention')
      if (isAttention) for (const input of node.inputs) if (isTurn(input.node)) read.add(input.node)
    }
    assert.ok(turns.length >= 4)
    for (const turn of turns) {
      const [input] = turn.inputs as [Value]
      assert.ok(read.has(turn) || input.node.op.endsWith('Grad'), `turned is what ${input.node.op} makes`)
    }
    // Nothing but products of what is trained and masks is left outside.
    const cut = cutGraph(turned, supportsTurned)
    assert.ok(cut !== null)
    for (const stage of [cut.before, cut.after]) assert.ok(stage === null || !stage.nodes.some(isTurn))
    const shipped = Object.values(cut.before?.outputs ?? {})
    assert.ok(shipped.every(({ node }) => ['linear', 'tanh', 'mul', 'concat'].includes(node.op)))
  })
}

test('any axis may be the one that is split or joined', () => {
  const g = new GraphBuilder()
  const x = g.input('x', [2, 3, 4])
  const [a, b] = g.split(g.transpose(x, [2, 0, 1]), 2, [1, 2]) as [Value, Value]
  const joined = g.transpose(g.concat([x, x], 1), [2, 1, 0])
  const graph = makeGraph({ a, b, joined, turned: g.transpose(x, [2, 1, 0]) })
  const turned = turnedInParts(graph)
  assert.ok(turned.nodes.every(({ op, inputs }) => op !== 'split' || inputs[0]?.node.op === 'input'))
  assert.equal(turned.outputs['joined']?.node.op, 'concat')
  const feeds = {
    x: float32(
      Float32Array.from({ length: 24 }, (_, i) => i),
      [2, 3, 4],
    ),
  }
  assert.deepEqual(evaluate(turned, feeds), evaluate(graph, feeds))
})

test(`what is joined and split anywhere gives the same parts (seed ${seed})`, () => {
  const random = new Random(seed)
  /** Sizes that add up to twelve. */
  const sizes = (): number[] => {
    const drawn: number[] = []
    for (let left = 12; left > 0; left -= drawn.at(-1) as number) drawn.push(1 + random.below(Math.min(left, 5)))
    return drawn
  }
  for (let round = 0; round < 50; round++) {
    const [joined, split, turns] = [sizes(), sizes(), random.below(2) === 1]
    const g = new GraphBuilder()
    const whole = g.concat(
      joined.map((size, i) => g.input(`x${i}`, [2, size, 3])),
      1,
    )
    const parts = turns ? g.split(g.transpose(whole, [0, 2, 1]), 2, split) : g.split(whole, 1, split)
    const graph = makeGraph(Object.fromEntries(parts.map((part, i) => [`y${i}`, part])))
    const feeds = Object.fromEntries(
      joined.map((size, i) => [
        `x${i}`,
        float32(
          Float32Array.from({ length: 6 * size }, () => random.normal()),
          [2, size, 3],
        ),
      ]),
    )
    const turned = turnedInParts(graph)
    assert.deepEqual(evaluate(turned, feeds), evaluate(graph, feeds), `${joined} to ${split}`)
    if (joined.join() === split.join()) assert.ok(turned.nodes.every(({ op }) => op !== 'concat' && op !== 'split'))
  }
})
