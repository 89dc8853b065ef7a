// Runs by several threads, and runs that wait for each other: the same bits, whoever else computes.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { inputsOf, makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { bindShape } from '../../../src/graph/shape.ts'
import { Random } from '../../../src/random/random.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import { int32, sizeOf, type Tensor } from '../../../src/tensor/tensor.ts'
import { assertSame, normal, open, runOnce, seed, skip, type NamedNumbers, type Outputs } from './run-graph.ts'

const [heads, headDim, vocabulary] = [3, 16, 100]
const width = heads * headDim

/** A layer as GPT-2 has it, with every kernel. */
function layer(): Graph {
  const g = new GraphBuilder()
  const product = (x: Value, name: string, columns: number): Value =>
    g.linear(x, g.weight(name, [x.shape.at(-1) as number, columns]), g.weight(`${name}.bias`, [columns]))
  const norm = (x: Value): Value => g.layerNorm(x, g.weight('scale', [width]), g.weight('shift', [width]), 1e-5)
  const table = g.weight('table', [vocabulary, width])
  const x = g.gather(table, g.input('tokens', ['B', 'T'], 'int32'))
  const [q, k, v] = g.split(product(norm(x), 'qkv', 3 * width), 2, [width, width, width]) as [Value, Value, Value]
  const pastKey = g.transpose(g.input('pastKey', ['B', heads, 'P', headDim]), [0, 1, 3, 2])
  const pastValue = g.input('pastValue', ['B', heads, 'P', headDim])
  const lengths = g.input('lengths', ['B'], 'int32')
  const attended = g.add(x, product(g.attention([q, k, v, pastKey, pastValue, lengths], heads), 'out', width))
  const inner = g.gelu(product(norm(attended), 'up', 4 * width))
  const y = g.add(attended, g.scale(g.exactGelu(product(inner, 'down', width)), 0.5))
  const byHead = g.transpose(g.reshape(k, ['B', 'T', heads, headDim]), [0, 2, 1, 3])
  return makeGraph({ logits: g.linear(norm(y), table, null, { transposed: true }), byHead })
}

const graph = layer()

function weightsOf(random: Random): NamedNumbers {
  const weights: Record<string, Tensor & { data: Float32Array }> = {}
  for (const node of graph.nodes) {
    if (node.op !== 'weight') continue
    const { name, shape } = node.attributes
    weights[name] = normal(random, shape as number[], 0.2)
  }
  return weights
}

const weights = weightsOf(new Random(seed))

function feedsOf(random: Random, { batch, tokens, past }: { batch: number; tokens: number; past: number }): Feeds {
  const bindings = new Map([
    ['B', batch],
    ['T', tokens],
    ['P', past],
  ])
  const feeds: Record<string, Tensor> = {}
  for (const { attributes } of inputsOf(graph)) {
    const shape = bindShape(attributes.shape, bindings)
    const below = attributes.name === 'tokens' ? vocabulary : past + 1
    const whole = Int32Array.from({ length: sizeOf(shape) }, () => random.below(below))
    feeds[attributes.name] = attributes.dtype === 'int32' ? int32(whole, shape) : normal(random, shape)
  }
  return feeds
}

const shapes = [
  { batch: 1, tokens: 1, past: 9 },
  { batch: 5, tokens: 1, past: 40 },
  { batch: 2, tokens: 70, past: 3 },
  { batch: 1, tokens: 1, past: 10 },
]

function assertAlike(what: string, got: Outputs, expected: Outputs): void {
  for (const [name, values] of Object.entries(expected)) assertSame(`${what}: ${name}`, got[name], values)
}

for (const threads of [2, 3, 8]) {
  test(`${threads} threads make the same bits as one, again and again`, { skip }, async () => {
    const [one, several] = [open(graph, weights), open(graph, weights, { threads })]
    const random = new Random(seed + threads)
    for (let round = 0; round < 40; round++) {
      const shape = shapes[round % shapes.length] as (typeof shapes)[number]
      const feeds = feedsOf(random, shape)
      assertAlike(`round ${round}`, await runOnce(several, feeds), await runOnce(one, feeds))
    }
    await Promise.all([one.dispose(), several.dispose()])
  })
}

test('runs that are asked for at once, of one program and of several, say what each says alone', { skip }, async () => {
  const random = new Random(seed)
  const programs = [open(graph, weights, { threads: 2 }), open(graph, weights), open(graph, weights, { threads: 3 })]
  const asked = Array.from({ length: 24 }, (_, i) => ({
    program: programs[i % 3] as (typeof programs)[number],
    feeds: feedsOf(random, shapes[random.below(shapes.length)] as (typeof shapes)[number]),
  }))
  const together = await Promise.all(asked.map(({ program, feeds }) => runOnce(program, feeds)))
  for (const [i, { program, feeds }] of asked.entries())
    assertAlike(`run ${i}`, together[i] as Outputs, await runOnce(program, feeds))
  await Promise.all(programs.map((each) => each.dispose()))
})

test('a run that fails leaves those behind it alone', { skip }, async () => {
  const random = new Random(seed)
  const program = open(graph, weights, { threads: 2 })
  const feeds = feedsOf(random, shapes[1] as (typeof shapes)[number])
  const { tokens, ...incomplete } = feeds
  assert.ok(tokens !== undefined)
  const [failed, done] = await Promise.allSettled([runOnce(program, incomplete), runOnce(program, feeds)])
  assert.match(String(failed.status === 'rejected' && failed.reason), /input tokens is not fed/)
  assert.ok(done.status === 'fulfilled')
  assertAlike('the other', done.value, await runOnce(program, feeds))
  await program.dispose()
})

test('a program that is disposed of first does what was asked of it before', { skip }, async () => {
  const random = new Random(seed)
  const [program, other] = [open(graph, weights, { threads: 2 }), open(graph, weights)]
  const feeds = shapes.map((shape) => feedsOf(random, shape))
  const runs = feeds.map((each) => runOnce(program, each))
  const disposed = program.dispose()
  const expected = feeds.map((each) => runOnce(other, each))
  for (const [i, run] of runs.entries()) assertAlike(`run ${i}`, await run, await (expected[i] as Promise<Outputs>))
  await disposed
  await other.dispose()
})

test('a program that is no more runs nothing, and may be disposed of again', { skip }, async () => {
  const random = new Random(seed)
  const [program, other] = [open(graph, weights), open(graph, weights)]
  const feeds = feedsOf(random, shapes[0] as (typeof shapes)[number])
  const expected = await runOnce(program, feeds)
  const disposed = program.dispose()
  await assert.rejects(runOnce(program, feeds), /there is no kernel/)
  await disposed
  await program.dispose()
  await assert.rejects(runOnce(program, feeds), /there is no kernel/)
  assertAlike('another program', await runOnce(other, feeds), expected)
  await other.dispose()
})

test('more shapes than are kept, and memory that grows and is used again by smaller ones', { skip }, async () => {
  const random = new Random(seed)
  const [program, fresh] = [open(graph, weights, { threads: 2 }), open(graph, weights)]
  const first = feedsOf(random, { batch: 1, tokens: 1, past: 1 })
  const before = await runOnce(program, first)
  for (let past = 2; past < 72; past++) {
    const feeds = feedsOf(random, { batch: 1 + (past % 3), tokens: past % 7 === 0 ? 20 : 1, past })
    const outputs = await runOnce(program, feeds)
    if (past % 10 === 0) assertAlike(`a past of ${past}`, outputs, await runOnce(fresh, feeds))
  }
  assertAlike('the first one again', await runOnce(program, first), before)
  await Promise.all([program.dispose(), fresh.dispose()])
})

/** Of a thread of this process. The name may hold anything; behind it the 39th field is the policy (proc_pid_stat(5)). */
function policyOf(thread: string): number {
  const fields = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
  return Number(fields[38])
}

test('threads that have computed wake up without taking a processor from others (SCHED_BATCH)', { skip }, async () => {
  const program = open(graph, weights, { threads: 2 })
  await runOnce(program, feedsOf(new Random(seed), shapes[0] as (typeof shapes)[0]))
  const batch = 3
  const policies = readdirSync('/proc/self/task').map(policyOf)
  assert.ok(policies.includes(batch), `policies ${policies}`)
  assert.notEqual(policyOf(`${process.pid}`), batch, 'the thread of JavaScript stays as it was')
  await program.dispose()
})
