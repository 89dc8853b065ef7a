// Prefixes from elsewhere play as they did where they came from: logits and greedy ids against PEFT and PyTorch.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { readPaper } from '../../src/prefix/paper.ts'
import { readPeft } from '../../src/prefix/peft.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { assertClose, goldenFolder, type GoldenDecode } from '../golden/gpt2.ts'
import { adapterFiles, adapters, paperModel, peftGolden, tinyModel } from '../golden/peft.ts'

const runtime = createOnnxRuntime({ threads: 1 })

async function assertSays(prefix: Prefix, expected: readonly GoldenDecode[]): Promise<void> {
  const model = await openModel(`${goldenFolder}/model`)
  const session = await runtime.openSession(model.forwardGraph(), model.weights, { ...model.config, rowsMax: 1 })
  const { keys, values, header } = prefix
  for (const { prompt, ids, logits } of expected) {
    session.seed(0, { keys, values, length: header.prefixLength })
    const width = logits.shape[1] as number
    let input = prompt
    const said: number[] = []
    for (const step of ids.keys()) {
      const actual = await session.extend(0, [input])
      const name = `logits of step ${step} after ${prompt.length} tokens`
      // Relative to the largest logit; float32 on both sides.
      assertClose(name, actual, logits.data.slice(step * width, (step + 1) * width), 1e-5)
      said.push(actual.indexOf(Math.max(...actual)))
      input = [said[step] as number]
    }
    assert.deepEqual(said, ids)
  }
  await session.dispose()
}

for (const name of adapters) {
  test(`an adapter that PEFT saved (${name}) gives the logits and the greedy ids that it gives in PEFT`, async () => {
    await assertSays(readPeft(adapterFiles(name), tinyModel), peftGolden.adapters[name])
  })
}

test("a checkpoint of the paper's code gives the logits and the greedy ids that its network gives in PyTorch", async () => {
  await assertSays(await readPaper(paperModel(), tinyModel), peftGolden.paper.says)
})
