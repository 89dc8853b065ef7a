// What the ONNX model of a graph holds: what its outputs need, and no product by a row scale that can wait.
import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { makeGraph } from '../../src/graph/graph.ts'
import type { Value } from '../../src/graph/ops.ts'
import { Emitter } from '../../src/runtime/onnx/emitter.ts'

/** y = x, to which a test adds nodes of its own. */
function emitter(): Emitter {
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.input('x', ['R', 4]) })
  const e = new Emitter(graph, { folder: tmpdir(), tensors: new Map() })
  for (const node of graph.nodes) if (node.op === 'input') e.setFull(node.outputs[0] as Value, node.attributes.name)
  return e
}

test('nodes that lead to no output are left out, and so are constants that only they took', () => {
  const e = emitter()
  e.emit('Neg', [e.emit('Mul', ['x', e.float(3)])])
  const { node, initializer } = e.finish()
  assert.deepEqual(
    node.map(({ opType }) => opType),
    ['Identity'],
  )
  assert.deepEqual(initializer, [])
})

test('scaled rows are known as rows and scales, other values are not', () => {
  const e = emitter()
  const scaled = e.scaleRows('x', 'scales')
  assert.deepEqual(e.rowScaled(scaled), { rows: 'x', scales: 'scales' })
  assert.equal(e.rowScaled(e.emit('Neg', [scaled])), null)
})

test('products of the same rows with frozen weights and biases are known as lying side by side, others are not', () => {
  const g = new GraphBuilder()
  const [x, other] = [g.input('x', ['R', 4]), g.input('other', ['R', 4])]
  const product = (
    name: string,
    of = x,
    bias: Value | null = g.weight(`${name}.bias`, [3]),
    transposed = false,
  ): Value => g.linear(of, g.weight(name, transposed ? [3, 4] : [4, 3]), bias, { transposed })
  const [query, key] = [product('query'), product('key')]
  const alone = [
    product('of others', other),
    product('without bias', x, null),
    product('trained bias', x, g.input('bias', [3])),
    product('turned', x, g.weight('turned.bias', [3]), true),
  ]
  const outputs = Object.fromEntries([query, key, ...alone].map((value, i) => [`y${i}`, value]))
  const e = new Emitter(makeGraph(outputs), { folder: tmpdir(), tensors: new Map() })
  const besides = ({ node }: Value): unknown => (node.op === 'linear' ? e.besides(node) : assert.fail())
  assert.deepEqual(besides(key), [query.node, key.node])
  assert.deepEqual(besides(alone[0] as Value), [alone[0]?.node])
  assert.deepEqual(besides(alone[3] as Value), [alone[3]?.node])
})

test('a bias that is added, and a lower bound, are known of what has them alone', () => {
  const e = emitter()
  const sum = e.addBias('x', 'bias')
  assert.deepEqual(e.biased(sum), { rows: 'x', bias: 'bias' })
  assert.equal(e.biased(e.emit('Neg', [sum])), null)
  e.setLowerBound(sum, -1)
  assert.equal(e.lowerBound(sum), -1)
  assert.equal(e.lowerBound('x'), null)
})

test('columns are scaled by a product where there is one that does so, and by a node of their own otherwise', () => {
  const e = emitter()
  const product = e.emit('MatMul', ['x', 'w'])
  e.setColumnScaled(product, (factors) => `product scaled by ${factors}`)
  assert.equal(e.scaleColumns(product, 'factors'), 'product scaled by factors')
  assert.match(e.scaleColumns('x', 'factors'), /^Mul_/)
})
