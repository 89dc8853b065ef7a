// Trainings run in stages: onnxruntime before and after, and a trunk that overwrites what it answered.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cutGraph, type CutGraph } from '../../src/graph/cut.ts'
import type { Graph } from '../../src/graph/graph.ts'
import type { Model } from '../../src/model/model.ts'
import { lower } from '../../src/runtime/onnx/lower.ts'
import { OnnxProgram } from '../../src/runtime/onnx/program.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds, Program } from '../../src/runtime/runtime.ts'
import { StagedProgram } from '../../src/runtime/staged-program.ts'
import { float32, type Tensor } from '../../src/tensor/tensor.ts'
import { assertClose } from '../golden/gpt2.ts'
import { supportsModel } from '../graph/supported-nodes.ts'
import { bart, gpt2, seed, trainingCase } from '../graph/training-graphs.ts'
import { referenceWeights } from '../train/golden-runs.ts'

const cutOf = (graph: Graph): CutGraph => {
  const cut = cutGraph(graph, supportsModel)
  assert.ok(cut !== null)
  return cut
}

/** Counts those that are open; one that `overwrites` answers in the same arrays each time. */
class Watched implements Program {
  static open = 0
  readonly #program: Program
  readonly #kept: Map<string, Float32Array> | null

  constructor(program: Program, { overwrites }: { readonly overwrites: boolean }) {
    this.#program = program
    this.#kept = overwrites ? new Map() : null
    Watched.open += 1
  }
  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    for (const kept of this.#kept?.values() ?? []) kept.fill(Number.NaN)
    const made = await this.#program.run(feeds)
    if (this.#kept === null) return made
    for (const [name, { data, shape }] of Object.entries(made)) {
      const kept = this.#kept.get(name) ?? new Float32Array(data.length)
      kept.set(data)
      this.#kept.set(name, kept)
      made[name] = float32(kept, shape)
    }
    return made
  }
  async dispose(): Promise<void> {
    Watched.open -= 1
    await this.#program.dispose()
  }
}

function openStages({ weights }: Model, cut: CutGraph): Promise<StagedProgram> {
  const session = (part: Graph, spins: boolean): Promise<Program> =>
    OnnxProgram.open(lower(part, weights), weights.folder, { threads: 2, packed: false, spins })
  return StagedProgram.open(cut, {
    trunk: async (part) => new Watched(await session(part, true), { overwrites: true }),
    around: async (part) => new Watched(await session(part, false), { overwrites: false }),
  })
}

for (const [what, model, options] of [
  ['keys and values', gpt2, {}],
  ['a network', gpt2, { network: 6 }],
  ['three networks with dropout', bart, { network: 6, dropout: true }],
] as const) {
  test(`${what}: runs that are begun at the same time answer each its own, and keep it`, async () => {
    const { graph, feeds } = trainingCase(model, [options])
    const program = await openStages(model, cutOf(graph))
    assert.equal(Watched.open, 3)
    const { data, shape } = feeds['lossWeights'] as Tensor
    const doubled = {
      ...feeds,
      lossWeights: float32(
        Float32Array.from(data, (weight) => 2 * weight),
        shape,
      ),
    }
    const answers = await Promise.all([program.run(feeds), program.run(doubled)])
    const weights = await referenceWeights(model.weights)
    for (const [i, fed] of [feeds, doubled].entries()) {
      const got = answers[i] as Record<string, Tensor>
      assert.deepEqual(Object.keys(got), Object.keys(graph.outputs))
      for (const [name, expected] of Object.entries(evaluate(graph, fed, weights))) {
        assert.deepEqual(got[name]?.shape, expected.shape)
        assertClose(`${name}, seed ${seed}`, got[name]?.data ?? [], expected.data, 1e-5)
      }
    }
    await program.dispose()
    assert.equal(Watched.open, 0)
  })
}

test('a run that fails does not stand in the way of the next', async () => {
  const { graph, feeds } = trainingCase(gpt2, [{}])
  const program = await openStages(gpt2, cutOf(graph))
  const { tokens: _, ...lacking } = feeds
  await assert.rejects(program.run(lacking), /input tokens is not fed/)
  const { tokenLosses } = await program.run(feeds)
  assert.ok(tokenLosses?.data.every(Number.isFinite))
  await program.dispose()
})

test('what was opened is given back where a stage cannot be', async () => {
  const { graph } = trainingCase(gpt2, [{}])
  const idle: Program = { run: () => assert.fail('nobody runs it'), dispose: () => Promise.resolve() }
  const opening = StagedProgram.open(cutOf(graph), {
    trunk: () => assert.fail('no memory'),
    around: () => new Watched(idle, { overwrites: false }),
  })
  await assert.rejects(opening, /no memory/)
  assert.equal(Watched.open, 0)
})
