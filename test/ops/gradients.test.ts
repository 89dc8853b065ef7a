// Every VJP rule against central differences, along one random direction.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gradient } from '../../src/graph/gradient.ts'
import { makeGraph } from '../../src/graph/graph.ts'
import type { Value } from '../../src/graph/ops.ts'
import { Random } from '../../src/random/random.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import { cases, type OpCase } from './cases.ts'
import { ready, seed } from './run-case.ts'

for (const [op, list] of Object.entries(cases)) {
  for (const opCase of list) {
    if (op.endsWith('Grad')) {
      test(`${op}, ${opCase.name}: asked for a gradient of its own, it says it has none`, () => {
        const { g, outputs } = ready(opCase)
        const loss = g.sumTo(outputs[0] as Value, [])
        assert.throws(() => gradient(g, loss, outputs[0]!.node.inputs.slice(0, 1)), /is a gradient itself/)
      })
    } else test(`the gradient of ${op}, ${opCase.name}, agrees with central differences`, () => check(opCase))
  }
}

function check(opCase: OpCase): void {
  const { g, outputs, graph, feeds, weights } = ready(opCase)
  const random = new Random(seed + 1)
  const parameters = graph.nodes
    .filter((node) => node.op === 'input' && node.attributes.dtype === 'float32')
    .map((node) => node.outputs[0] as Value)
  const at: Record<string, Feeds[string]> = { ...feeds }
  const shapes = evaluate(graph, feeds, weights)
  // Weigh the outputs at random, so that no wrong sign can cancel out in the sum.
  const terms = outputs.map((output, i) => {
    const { shape } = shapes[`out${i}`]!
    at[`weigh${i}`] = {
      dtype: 'float32',
      shape,
      data: Float64Array.from(shapes[`out${i}`]!.data, () => random.normal()),
    }
    return g.sumTo(g.mul(output, g.input(`weigh${i}`, output.shape)), [])
  })
  const loss = terms.reduce((a, b) => g.add(a, b))
  const direction = new Map(
    parameters.map((p) => [nameOf(p), Float64Array.from(feeds[nameOf(p)]!.data, () => random.normal())]),
  )

  const gradients = gradient(g, loss, parameters)
  const wanted = Object.fromEntries(gradients.map((value, i) => [`${i}`, value]))
  const slopes = evaluate(makeGraph({ loss, ...wanted }), at, weights)
  const slope = parameters.reduce((sum, p, i) => sum + dot(slopes[`${i}`]!.data, direction.get(nameOf(p))!), 0)

  const step = 1e-5
  const lossAt = (t: number): number => {
    const moved = Object.fromEntries(
      Object.entries(at).map(([name, feed]) => {
        const d = direction.get(name)
        return [name, d === undefined ? feed : { ...feed, data: Float64Array.from(feed.data, (v, i) => v + t * d[i]!) }]
      }),
    )
    return evaluate(makeGraph({ loss }), moved, weights)['loss']!.data[0]!
  }
  const expected = (lossAt(step) - lossAt(-step)) / (2 * step)
  assert.ok(
    Math.abs(slope - expected) < 1e-7 * Math.max(1, Math.abs(expected)),
    `slope ${slope}, central difference ${expected}, seed ${seed}`,
  )
}

const nameOf = (value: Value): string => (value.node.attributes as { name: string }).name

function dot(a: ArrayLike<number>, b: Float64Array): number {
  return b.reduce((sum, x, i) => sum + x * a[i]!, 0)
}
