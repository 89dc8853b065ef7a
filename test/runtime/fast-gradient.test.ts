// Gradients that are computed another way where products are in 8 bits: of a head over its vocabulary, and of both kinds of gelu.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { gradient } from '../../src/graph/gradient.ts'
import { makeGraph, type Graph } from '../../src/graph/graph.ts'
import { Random } from '../../src/random/random.ts'
import { quantizedForms, type QuantizedForm } from '../../src/runtime/onnx/forms.ts'
import { isExact } from '../../src/runtime/onnx/measure.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import { float32, int32, type TensorData } from '../../src/tensor/tensor.ts'
import type { Weight, Weights } from '../../src/tensor/weights.ts'
import { relativeNorm } from './relative-norm.ts'

const folder = await mkdtemp(path.join(tmpdir(), 'preamble-fast-gradient-'))
after(() => rm(folder, { recursive: true }))

const [vocabulary, width, rows] = [5_000, 48, 6]
const seed = 11

/** Of the gradient's norm: 8 bits of the table, and probabilities below half a step replaced by what they add up to. */
const headTolerance = 0.03
/**
 * The difference in place of the slope is off by 4e-4 where gelu bends most, and by 2e-4·|x| at most, the rounding of what it is made
 * of; 8 bits cost the gradient 0.05 and more.
 */
const slopeTolerance = 1.2e-3
/** Of the slopes' norm over |x| < 3, where activations are. */
const meanSlopeTolerance = 5e-4

/** Of the norm: 8 bits of two layers, forward and backward. */
const layersTolerance = 0.03

async function table(spread: number): Promise<Weights> {
  const random = new Random(seed)
  // Embeddings have a mean that is not 0: what is lost of the probabilities would be missed.
  const data = Float32Array.from({ length: vocabulary * width }, () => spread * (random.normal() + 1))
  await writeFile(path.join(folder, 'table.bin'), new Uint8Array(data.buffer))
  const about = { name: 'table', dtype: 'float32', shape: [vocabulary, width], file: 'table.bin', offset: 0 } as const
  return { folder, sha256: `table-${spread}`, tensors: new Map([['table', { ...about, bytes: data.byteLength }]]) }
}

function headGraph(): Graph {
  const g = new GraphBuilder()
  const hidden = g.input('hidden', ['R', width])
  const labels = g.input('labels', ['R'], 'int32')
  const losses = g.crossEntropy([hidden, g.weight('table', [vocabulary, width]), labels])
  const [dHidden] = gradient(g, g.sumTo(losses, []), [hidden])
  return makeGraph({ dHidden: dHidden as typeof hidden })
}

async function run(graph: Graph, weights: Weights, feeds: Feeds, form: string): Promise<TensorData> {
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder: path.join(folder, 'quantized') } })
  assert.equal(await runtime.fastForm(graph, weights, form), form)
  const program = await runtime.compile(graph, weights, form)
  const [output] = Object.values(await program.run(feeds))
  await program.dispose()
  return output!.data
}

for (const form of quantizedForms) {
  for (const [name, spread] of [
    ['flat', 0.02],
    ['in a long tail', 0.3],
    ['peaked', 1],
  ] as const) {
    test(`${form}: the gradient of a head whose probabilities are ${name} is near float32`, async (t) => {
      if (!(await isExact(form, 1))) return t.skip(`this processor's kernel for ${form} weights is inexact`)
      const random = new Random(seed + 1)
      const feeds = {
        hidden: float32(
          Float32Array.from({ length: rows * width }, () => random.normal()),
          [rows, width],
        ),
        labels: int32(
          Int32Array.from({ length: rows }, () => Math.floor(random.next() * vocabulary)),
          [rows],
        ),
      }
      const weights = await table(spread)
      const [fast, plain] = [
        await run(headGraph(), weights, feeds, form),
        await run(headGraph(), weights, feeds, 'float32'),
      ]
      const error = relativeNorm(fast, plain)
      assert.ok(error > 0 && error < headTolerance, `off by ${error}, seed ${seed}`)
    })
  }
}

test('losses are read off probabilities: near float32 down to the least of them, and a number below', async () => {
  const g = new GraphBuilder()
  const hidden = g.input('hidden', ['R', width])
  const losses = g.crossEntropy([hidden, g.weight('table', [vocabulary, width]), g.input('labels', ['R'], 'int32')])
  const graph = makeGraph({ losses })
  const random = new Random(seed + 3)
  // Each row is surer than the one before, of another token than the label.
  const data = Float32Array.from({ length: 8 * width }, (_, i) => 2 ** Math.floor(i / width) * 0.05 * random.normal())
  const labels = Int32Array.from({ length: 8 }, () => Math.floor(random.next() * vocabulary))
  const feeds = { hidden: float32(data, [8, width]), labels: int32(labels, [8]) }
  const weights = await table(1)
  const [fast, plain] = [await run(graph, weights, feeds, 'unsigned'), await run(graph, weights, feeds, 'float32')]
  const most = -Math.log(1.2e-38)
  assert.ok(Math.max(...plain) > most + 1, `the largest loss is ${Math.max(...plain)}`)
  plain.forEach((value, i) => {
    const expected = Math.min(value, most)
    assert.ok(Math.abs(Number(fast[i]) / expected - 1) < 0.05, `row ${i}: ${fast[i]}, in float32 ${value}`)
  })
})

for (const op of ['gelu', 'exactGelu'] as const) {
  test(`the slope of ${op} as a difference is off by ${slopeTolerance} at most`, async () => {
    const g = new GraphBuilder()
    const x = g.input('x', ['R', 1000])
    const [dx] = gradient(g, g.sumTo(g[op](x), []), [x])
    const graph = makeGraph({ dx: dx as typeof x })
    const feeds = {
      x: float32(
        Float32Array.from({ length: 2000 }, (_, i) => (i - 1000) / 100),
        [2, 1000],
      ),
    }
    const weights = await table(1)
    const fast = await run(graph, weights, feeds, 'unsigned' satisfies QuantizedForm)
    const plain = await run(graph, weights, feeds, 'float32')
    const errors = [...plain].map((value, i) => Math.abs(Number(fast[i]) - value))
    const worst = Math.max(...errors)
    assert.ok(worst > 0 && worst < slopeTolerance, `off by ${worst} at ${feeds.x.data[errors.indexOf(worst)]}`)
    const near = (slopes: TensorData): Float32Array => Float32Array.from(slopes).slice(700, 1300)
    const mean = relativeNorm(near(fast), near(plain))
    assert.ok(mean < meanSlopeTolerance, `off by ${mean} of the norm`)
  })

  test(`${op} between layers takes the bias of the one before, and the next one rows of few negative steps`, async () => {
    const random = new Random(seed + 2)
    const [from, to] = [64, 256]
    const draw = (count: number, spread: number): Float32Array =>
      Float32Array.from({ length: count }, () => spread * random.normal())
    const data = { up: draw(from * to, 0.3), bias: draw(to, 1), down: draw(to * from, 0.1) }
    const shapes = { up: [from, to], bias: [to], down: [to, from] }
    const bytes = new Uint8Array(new Float32Array([...data.up, ...data.bias, ...data.down]).buffer)
    await writeFile(path.join(folder, `${op}.bin`), bytes)
    let offset = 0
    const tensors = new Map<string, Weight>()
    for (const name of ['up', 'bias', 'down'] as const) {
      const about = { name, dtype: 'float32', shape: shapes[name], file: `${op}.bin` } as const
      tensors.set(name, { ...about, offset, bytes: data[name].byteLength })
      offset += data[name].byteLength
    }
    const weights: Weights = { folder, sha256: `layers-${op}`, tensors }

    const g = new GraphBuilder()
    const x = g.input('x', ['R', from])
    const inner = g[op](g.linear(x, g.weight('up', shapes.up), g.weight('bias', shapes.bias)))
    const y = g.linear(inner, g.weight('down', shapes.down), null)
    const [dx] = gradient(g, g.sumTo(g.mul(y, y), []), [x])
    const graphs = [makeGraph({ y, dx: dx as typeof x }), makeGraph({ dx: dx as typeof x, y })]
    // Rows of all sizes: the largest have few values below 0 that count, the smallest little else.
    const rows = Float32Array.from({ length: 40 * from }, (_, i) => 2 ** ((i / from / 4) | 0) * 0.01 * random.normal())
    const feeds = { x: float32(rows, [40, from]) }
    for (const graph of graphs) {
      const [fast, plain] = [await run(graph, weights, feeds, 'unsigned'), await run(graph, weights, feeds, 'float32')]
      const error = relativeNorm(fast, plain)
      assert.ok(error > 0 && error < layersTolerance, `off by ${error}, seed ${seed}`)
    }
  })
}
