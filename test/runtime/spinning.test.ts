// Threads of a session that does not spin leave the cores to others once a run is over.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { makeGraph } from '../../src/graph/graph.ts'
import { lower } from '../../src/runtime/onnx/lower.ts'
import { OnnxProgram } from '../../src/runtime/onnx/program.ts'
import { float32 } from '../../src/tensor/tensor.ts'

const g = new GraphBuilder()
const graph = makeGraph({ y: g.tanh(g.linear(g.input('x', [64, 256]), g.input('w', [256, 512]), null)) })
const feeds = {
  x: float32(new Float32Array(64 * 256).fill(0.01), [64, 256]),
  w: float32(new Float32Array(256 * 512).fill(0.01), [256, 512]),
}

/** Time of the processor in the moments after twenty runs. */
async function usedAfterRuns(spins: boolean): Promise<number> {
  const model = lower(graph, { folder: '.', tensors: new Map() })
  const program = await OnnxProgram.open(model, '.', { threads: 2, packed: false, spins })
  let used = 0
  for (let i = 0; i < 20; i++) {
    await program.run(feeds)
    const before = process.cpuUsage()
    await sleep(10)
    const { user, system } = process.cpuUsage(before)
    used += user + system
  }
  await program.dispose()
  return used
}

test('a session spins unless it is told not to', async () => {
  const spinning = await usedAfterRuns(true)
  const waiting = await usedAfterRuns(false)
  assert.ok(waiting < spinning / 3, `${waiting} µs waiting, ${spinning} µs spinning`)
})
