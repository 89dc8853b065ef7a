// Every op's case on a runtime: each must agree with the reference.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds, Runtime } from '../../src/runtime/runtime.ts'
import type { Weight, Weights } from '../../src/tensor/weights.ts'
import { cases } from './cases.ts'
import { ready, seed, type ReadyCase } from './run-case.ts'

/** Float32 sums of a few terms of order one. */
const tolerance = 2e-6

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-ops-'))
})
after(async () => {
  await rm(folder, { recursive: true })
})

interface Column {
  readonly name: string
  /** For `test`: false, or why it is skipped. */
  readonly skip: false | string
  readonly open: () => Runtime | Promise<Runtime>
}

export function testOps({ name, skip, open }: Column): void {
  let opened: Runtime | Promise<Runtime> | null = null
  for (const [op, list] of Object.entries(cases)) {
    for (const opCase of list) {
      test(`${op}, ${opCase.name}: ${name} agrees with the reference`, { skip }, async () =>
        check(await (opened ??= open()), ready(opCase)),
      )
    }
  }
}

async function check(runtime: Runtime, readyCase: ReadyCase): Promise<void> {
  const expected = evaluate(readyCase.graph, readyCase.feeds, readyCase.weights)
  const program = await runtime.compile(readyCase.graph, await writeWeights(readyCase))
  const actual = await program.run(narrow(readyCase.feeds))
  await program.dispose()
  for (const [name, tensor] of Object.entries(expected)) {
    assert.deepEqual([...actual[name]!.shape], [...tensor.shape], name)
    tensor.data.forEach((value, i) => {
      const got = actual[name]!.data[i]!
      assert.ok(
        Math.abs(got - value) <= tolerance * Math.max(1, Math.abs(value)),
        `${name}[${i}]: ${got} instead of ${value}, seed ${seed}`,
      )
    })
  }
}

function narrow(feeds: Feeds): Feeds {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, feed]) => [
      name,
      { ...feed, data: feed.data instanceof Int32Array ? feed.data : Float32Array.from(feed.data) },
    ]),
  )
}

async function writeWeights({ graph, weights }: ReadyCase): Promise<Weights> {
  const tensors = new Map<string, Weight>()
  const parts: Uint8Array[] = []
  let offset = 0
  for (const node of graph.nodes) {
    if (node.op !== 'weight') continue
    const { name, shape } = node.attributes
    const data = Buffer.from(Float32Array.from(weights.get(name)!).buffer)
    tensors.set(name, {
      name,
      dtype: 'float32',
      shape: shape as number[],
      file: 'weights.bin',
      offset,
      bytes: data.length,
    })
    parts.push(data)
    offset += data.length
  }
  await writeFile(path.join(folder, 'weights.bin'), Buffer.concat(parts))
  return { folder, tensors }
}
