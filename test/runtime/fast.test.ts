// The fast forms of frozen layers: near float32, exact in their integers, and kept in files that are checked.
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { gradient } from '../../src/graph/gradient.ts'
import { makeGraph, type Graph } from '../../src/graph/graph.ts'
import { openModel } from '../../src/model/model.ts'
import { Random } from '../../src/random/random.ts'
import { frozenProducts, quantizedForms, type QuantizedForm } from '../../src/runtime/onnx/forms.ts'
import { isExact } from '../../src/runtime/onnx/measure.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { withQuantized } from '../../src/runtime/onnx/quantized-weights.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import { float32, type TensorData } from '../../src/tensor/tensor.ts'
import type { Weights } from '../../src/tensor/weights.ts'
import { trainingGraph } from '../../src/train/graphs.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { relativeNorm } from './relative-norm.ts'
import { golden, goldenFeeds, goldenFolder, toTensor } from '../golden/gpt2.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-fast-'))
})
after(async () => {
  await rm(folder, { recursive: true })
})

/**
 * A weight is off by a uniform error within half a step, 1/√12 steps on average, where its column's largest is 127 steps and
 * some 3 times the average: 0.7 % of it. Inputs add as much; 7 bits double the share of the weights, pairs add a third to it.
 */
const layerTolerance: Readonly<Record<QuantizedForm, number>> = {
  blocks: 0.015,
  signed: 0.015,
  unsigned: 0.015,
  paired: 0.018,
  mixed: 0.03,
}
/** Eight products one after the other, there and back. */
const modelTolerance = 6

for (const form of quantizedForms) {
  test(`${form}: a layer of 320 × 200 and its gradient are near float32, rows of any magnitude`, async (t) => {
    if (!(await isExact(form, 1))) return t.skip(`this processor's kernel for ${form} weights is inexact`)
    const g = new GraphBuilder()
    const x = g.input('x', ['R', 320])
    const y = g.linear(x, g.weight('w', [320, 200]), g.input('b', [200]))
    const [dx] = gradient(g, g.sumTo(g.mul(y, g.input('ct', ['R', 200])), []), [x])
    const graph = makeGraph({ y, dx: dx as typeof x })
    const random = new Random(3)
    // Each row a tenth of the one before: a scale for all rows together would leave nothing of the last.
    const draw = (rows: number, width: number): Float32Array =>
      Float32Array.from({ length: rows * width }, (_, i) => random.normal() * 10 ** -Math.floor(i / width))
    const feeds = {
      x: float32(draw(5, 320), [5, 320]),
      ct: float32(draw(5, 200), [5, 200]),
      b: float32(new Float32Array(200), [200]),
    }
    const [plain, fast] = await runBoth(graph, await randomWeight(random), feeds, form)
    for (const [name, width] of [
      ['y', 200],
      ['dx', 320],
    ] as const) {
      for (let row = 0; row < 5; row++) {
        const part = (data: TensorData): TensorData => data.slice(row * width, (row + 1) * width)
        const error = relativeNorm(part(fast[name]!.data), part(plain[name]!.data))
        assert.ok(error > 0 && error < layerTolerance[form], `row ${row} of ${name} is off by ${error}`)
      }
    }
  })

  test(`${form}: losses and prefix gradients of the golden GPT-2 are near float32`, async (t) => {
    if (!(await isExact(form, 1))) return t.skip(`this processor's kernel for ${form} weights is inexact`)
    const model = await openModel(`${goldenFolder}/model`)
    const graph = trainingGraph(model, prefixShape(model.config, golden.prefixLength, 0))
    const feeds: Feeds = {
      ...goldenFeeds('mean'),
      keys: toTensor(golden.prefix['keys']!),
      values: toTensor(golden.prefix['values']!),
    }
    const [plain, fast] = await runBoth(graph, model.weights, feeds, form)
    for (const name of Object.keys(plain)) {
      const error = relativeNorm(fast[name]!.data, plain[name]!.data)
      assert.ok(error > 0 && error < modelTolerance * layerTolerance[form], `${name} is off by ${error}`)
    }
  })
}

test('products of unsigned weights, of weights of 7 bits and of weights that are small in pairs are exact everywhere', async () => {
  assert.deepEqual(
    [await isExact('unsigned', 1), await isExact('mixed', 2), await isExact('paired', 1)],
    [true, true, true],
  )
})

test('a damaged and a foreign file are made anew, a good one is left alone', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const graph = trainingGraph(model, prefixShape(model.config, 2, 0))
  const own = path.join(folder, 'own')
  const make = (): Promise<Weights> => withQuantized(model.weights, frozenProducts(graph, 'unsigned'), 'unsigned', own)
  await make()
  const [name = '', ...others] = await readdir(own)
  assert.match(name, new RegExp(`^${model.sha256}-unsigned-[0-9a-f]{8}\\.safetensors$`))
  assert.deepEqual(others, [])
  const file = path.join(own, name)
  const good = await readFile(file)
  const { mtimeMs } = await stat(file)
  await make()
  assert.equal((await stat(file)).mtimeMs, mtimeMs)

  await truncate(file, good.length - 1)
  await make()
  assert.deepEqual(await readFile(file), good)

  await writeFile(
    file,
    Buffer.from(good.toString('latin1').replace('preamble.quantized.1', 'preamble.quantized.0'), 'latin1'),
  )
  await make()
  assert.deepEqual(await readFile(file), good)
})

test('weights that are found in a file stay where they are, whatever other tensors are kept later', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const kept = path.join(folder, 'kept')
  const training = frozenProducts(trainingGraph(model, prefixShape(model.config, 2, 0)), 'mixed')
  const decoding = frozenProducts(model.forwardGraph(), 'mixed')
  const tensorsOf = async ({ folder: from, tensors }: Weights): Promise<ReadonlyMap<string, Buffer>> => {
    const read = new Map<string, Buffer>()
    for (const { name, file, offset, bytes } of tensors.values())
      read.set(name, (await readFile(path.join(from, file))).subarray(offset, offset + bytes))
    return read
  }
  const decoded = await withQuantized(model.weights, decoding, 'mixed', kept)
  const before = await tensorsOf(decoded)
  // As for a session that has yet to open what was found for it.
  const trained = await withQuantized(model.weights, training, 'mixed', kept)
  assert.deepEqual(await tensorsOf(decoded), before)
  // And neither makes the other's file anew.
  const names = await readdir(kept)
  const times = await Promise.all(names.map(async (each) => (await stat(path.join(kept, each))).mtimeMs))
  assert.deepEqual(await withQuantized(model.weights, decoding, 'mixed', kept), decoded)
  assert.deepEqual(await withQuantized(model.weights, training, 'mixed', kept), trained)
  assert.deepEqual(await readdir(kept), names)
  assert.deepEqual(await Promise.all(names.map(async (each) => (await stat(path.join(kept, each))).mtimeMs)), times)
})

test('where weights in 8 bits cannot be kept, a warning says so and the form is float32', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const graph = trainingGraph(model, prefixShape(model.config, 2, 0))
  const occupied = path.join(folder, 'occupied')
  await writeFile(occupied, '')
  const warnings: string[] = []
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder: occupied, warn: (text) => warnings.push(text) } })
  assert.equal(await runtime.fastForm(graph, model.weights, 'unsigned'), 'float32')
  assert.match(warnings.join(), /weights in 8 bits cannot be kept in .*occupied/)
})

test('the form of an earlier run is taken up; without one it is measured, once', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const graph = trainingGraph(model, prefixShape(model.config, 2, 0))
  const notes: string[] = []
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder, note: (text) => notes.push(text) } })
  assert.equal(await runtime.fastForm(graph, model.weights, 'mixed'), 'mixed')
  assert.equal(await runtime.fastForm(graph, model.weights, 'float32'), 'float32')
  assert.deepEqual(notes, [])
  const form = await runtime.fastForm(graph, model.weights)
  assert.equal(await runtime.fastForm(graph, model.weights), form)
  assert.equal(notes.length, 1)
  assert.match(notes.join(), new RegExp(`in the form ${form}; float32 [0-9.]+ ms`))
})

async function runBoth(
  graph: Graph,
  weights: Weights,
  feeds: Feeds,
  form: QuantizedForm,
): Promise<[Record<string, { data: TensorData }>, Record<string, { data: TensorData }>]> {
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder } })
  const results = []
  for (const each of ['float32', form]) {
    const program = await runtime.compile(graph, weights, each)
    results.push(await program.run(feeds))
    await program.dispose()
  }
  return results as [(typeof results)[0] & object, (typeof results)[0] & object]
}

async function randomWeight(random: Random): Promise<Weights> {
  const data = Float32Array.from({ length: 320 * 200 }, () => random.normal())
  await writeFile(path.join(folder, 'layer.bin'), new Uint8Array(data.buffer))
  const layer = { name: 'w', dtype: 'float32', shape: [320, 200], file: 'layer.bin', offset: 0 } as const
  return { folder, sha256: 'layer', tensors: new Map([['w', { ...layer, bytes: data.byteLength }]]) }
}
