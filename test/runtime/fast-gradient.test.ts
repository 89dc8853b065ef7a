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
import type { Weights } from '../../src/tensor/weights.ts'
import { relativeNorm } from './relative-norm.ts'

const folder = await mkdtemp(path.join(tmpdir(), 'preamble-fast-gradient-'))
after(() => rm(folder, { recursive: true }))

const [vocabulary, width, rows] = [5_000, 48, 6]
const seed = 11

/** Of the gradient's norm: 8 bits of the table, and probabilities below half a step replaced by what they add up to. */
const headTolerance = 0.03
/** The difference in place of the slope is off by 2e-5 of it, and by the rounding of sums that it is made of. */
const slopeTolerance = 1e-4

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
  })
}
