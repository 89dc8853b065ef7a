// Weights in float16: numbers are rounded to the nearest, checkpoints in float16 keep all their bits, and small gradients survive.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import { openModel } from '../../../src/model/model.ts'
import { Random } from '../../../src/random/random.ts'
import { roundFloat16 } from '../../../src/runtime/cuda/weights.ts'
import { widenFloat16 } from '../../../src/tensor/half.ts'
import { float32, int32, sizeOf } from '../../../src/tensor/tensor.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import type { Weights } from '../../../src/tensor/weights.ts'
import { gradientOf, trainingGraph } from '../../../src/train/graphs.ts'
import { prefixShape } from '../../../src/train/parameters.ts'
import { golden, goldenFeeds, goldenFolder, relativeError, toTensor } from '../../golden/gpt2.ts'
import { testCuda } from './runtimes.ts'

const { skip } = testCuda
const seed = Number(process.env['SEED'] ?? 7)
const folder = mkdtempSync(path.join(tmpdir(), 'preamble-float16-'))
after(() => rmSync(folder, { recursive: true }))

/** One weight in float16, as it would lie in a checkpoint. */
function weightsOf(halves: Uint16Array, shape: readonly number[]): Weights {
  assert.equal(halves.length, sizeOf(shape))
  const file = `${shape.join('x')}.bin`
  writeFileSync(path.join(folder, file), halves)
  const weight = { name: 'w', dtype: 'float16', shape, file, offset: 0, bytes: halves.byteLength } as const
  return { folder, tensors: new Map([['w', weight]]) }
}

const all = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i)
/** Those that are numbers and not negative, in their order. */
const ordered = widenFloat16(all.slice(0, 0x7c00))

/** By looking: the nearest of all, the even one of two; beyond them the largest. */
function nearest(value: number): number {
  const magnitude = Math.abs(value)
  let above = ordered.findIndex((each) => each >= magnitude)
  if (above < 0) above = ordered.length - 1
  const below = Math.max(0, above - 1)
  const [down, up] = [magnitude - ordered[below]!, ordered[above]! - magnitude]
  const closer = down < up || (down === up && below % 2 === 0) ? below : above
  return Math.sign(value) * ordered[closer]!
}

function oddNumbers(): Float32Array {
  const random = new Random(seed)
  const drawn = Array.from({ length: 150 }, () => random.normal() * 2 ** (random.below(44) - 28))
  // Half-way between two, at the border of what is subnormal, and at both ends.
  const border = [
    0,
    -0,
    1.00048828125,
    1.00146484375,
    2 ** -14,
    2 ** -24,
    2 ** -25,
    1.5 * 2 ** -24,
    65504,
    65519,
    65520,
    1e9,
  ]
  return Float32Array.of(...drawn, ...border, ...border.map((each) => -each))
}

test('the host rounds to the nearest float16', () => {
  const numbers = oddNumbers()
  assert.deepEqual(
    [...widenFloat16(roundFloat16(numbers))].map(Math.fround),
    [...numbers].map((each) => nearest(each)),
    `seed ${seed}`,
  )
  assert.deepEqual(roundFloat16(widenFloat16(all.slice(0, 0x7c00))), all.slice(0, 0x7c00))
})

test('the device rounds what meets a weight in float16 as the host does', { skip }, async () => {
  const numbers = oddNumbers()
  const width = 6
  const rows = numbers.length / width
  const one = Uint16Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 0x3c00 : 0))
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.linear(g.input('x', [rows, width]), g.weight('w', [width, width]), null) })
  const program = await testCuda.open({ checked: true }).compile(graph, weightsOf(one, [width, width]), 'float16')
  const { y } = await program.run({ x: float32(numbers, [rows, width]) })
  await program.dispose()
  assert.deepEqual(
    [...y!.data].map((each) => each + 0),
    [...widenFloat16(roundFloat16(numbers))].map((each) => each + 0),
  )
})

test('rows of a table in float16 are widened exactly, infinities and not-a-numbers with them', { skip }, async () => {
  const g = new GraphBuilder()
  const graph = makeGraph({ rows: g.gather(g.weight('w', [256, 256]), g.input('at', [256], 'int32')) })
  const program = await testCuda.open({ checked: true }).compile(graph, weightsOf(all, [256, 256]), 'float16')
  const { rows } = await program.run({
    at: int32(
      Int32Array.from({ length: 256 }, (_, i) => i),
      [256],
    ),
  })
  await program.dispose()
  const wrong = widenFloat16(all).findIndex((value, half) => !Object.is(value, rows!.data[half]))
  assert.equal(wrong, -1, `${wrong} became ${rows!.data[wrong]}`)
})

test('a checkpoint in float16 is trained on in float16, nearer than in bfloat16, also where gradients are small', {
  skip,
}, async () => {
  const model = await openModel(`${goldenFolder}/model-float16`)
  const runtime = testCuda.open({ checked: true })
  const graph = trainingGraph(model, prefixShape(model.config, golden.prefixLength, 0))
  const form = await runtime.fastForm(graph, model.weights)
  assert.equal(form, 'float16')
  assert.equal(await runtime.fastForm(graph, model.weights, 'bfloat16'), 'bfloat16', 'a run goes on as it began')
  const prefix = { keys: toTensor(golden.prefix['keys']!), values: toTensor(golden.prefix['values']!) }
  const feeds: Feeds = { ...goldenFeeds('mean'), ...prefix }
  const { data, shape } = feeds['lossWeights']!
  const lossWeights = float32(
    Float32Array.from(data, (each) => each / 1000),
    shape,
  )
  for (const given of [feeds, { ...feeds, lossWeights }]) {
    const outputs = []
    for (const each of ['float32', 'float16', 'bfloat16']) {
      const program = await runtime.compile(graph, model.weights, each)
      outputs.push(await program.run(given))
      await program.dispose()
    }
    const [exact, float16, bfloat16] = outputs
    for (const name of ['tokenLosses', gradientOf('keys'), gradientOf('values')]) {
      const [near, far] = [float16, bfloat16].map((other) => relativeError(other![name]!.data, exact![name]!.data))
      // Eight times as many steps between two powers of two, and weights that are exact.
      assert.ok(near! < 4e-3 && near! > 1e-7 && near! < far! / 3, `${name}: off by ${near}, in bfloat16 by ${far}`)
    }
  }
})
