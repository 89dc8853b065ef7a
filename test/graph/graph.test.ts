// What a graph is: shapes checked as it is written, nothing in it that no output needs, and a form to read.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { gradient } from '../../src/graph/gradient.ts'
import { makeGraph } from '../../src/graph/graph.ts'
import { printGraph } from '../../src/graph/print.ts'
import { openModel } from '../../src/model/model.ts'
import { trainingGraph } from '../../src/train/graphs.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { assertGolden } from '../golden.ts'
import { goldenFolder } from '../golden/gpt2.ts'

test('a node that no output needs is not in the graph', () => {
  const g = new GraphBuilder()
  const x = g.input('x', [2])
  g.tanh(g.scale(x, 3))
  assert.deepEqual(
    makeGraph({ y: g.tanh(x) }).nodes.map(({ op }) => op),
    ['input', 'tanh'],
  )
})

test('frozen weights get no gradient nodes', () => {
  const g = new GraphBuilder()
  const w = g.weight('w', [3, 3])
  const x = g.input('x', ['B', 3])
  const loss = g.sumTo(g.linear(g.linear(x, w, null), w, null), [])
  const [dx] = gradient(g, loss, [x])
  assert.ok(makeGraph({ loss, dx: dx! }).nodes.every(({ op }) => op !== 'outer'))
})

test('a deep graph is walked without running out of stack', () => {
  const g = new GraphBuilder()
  let x = g.input('x', [])
  for (let i = 0; i < 20_000; i++) x = g.tanh(x)
  assert.equal(makeGraph({ deep: x }).nodes.length, 20_001)
})

test('only a scalar has a gradient', () => {
  const g = new GraphBuilder()
  const x = g.input('x', [2])
  assert.throws(() => gradient(g, x, [x]), /only a scalar has a gradient, not \[2\]/)
})

test('a target that the loss does not depend on has gradient 0', () => {
  const g = new GraphBuilder()
  const [x, y] = [g.input('x', [2]), g.input('y', [3])]
  const [dy] = gradient(g, g.sumTo(x, []), [y])
  assert.deepEqual([dy!.node.op, dy!.shape], ['constant', [3]])
})

for (const [what, build, message] of [
  [
    'a sum of shapes that do not broadcast',
    (g) => g.add(g.input('x', [2]), g.input('y', [3])),
    /cannot broadcast \[2\] with \[3\]/,
  ],
  [
    'two names for one axis',
    (g) => g.add(g.input('x', ['B']), g.input('y', ['T'])),
    /cannot broadcast \[B\] with \[T\]/,
  ],
  [
    'a weight that does not fit',
    (g) => g.linear(g.input('x', ['B', 2]), g.input('w', [3, 2]), null),
    /x \[B,2\] does not fit w \[3,2\]/,
  ],
  [
    'parts that do not add up',
    (g) => g.split(g.input('x', [5]), 0, [2, 2])[0]!,
    /\[2,2\] does not add up to axis 0 of \[5\]/,
  ],
  ['float indices', (g) => g.gather(g.input('x', [4, 2]), g.input('i', [3])), /indices must be int32, not float32/],
] as const satisfies readonly (readonly [string, (g: GraphBuilder) => unknown, RegExp])[]) {
  test(`${what} are refused as the graph is written`, () => assert.throws(() => build(new GraphBuilder()), message))
}

test('the training graph of a two-layer GPT-2 is the one we know', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const graph = trainingGraph(model, prefixShape(model.config, 5, 0))
  await assertGolden(`${goldenFolder}/training-graph.txt`, printGraph(graph))
})
