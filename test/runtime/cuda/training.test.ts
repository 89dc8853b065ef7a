// Training on the device: it learns as on the CPU, resumes bit for bit, and its fast form stays near.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../../src/model/model.ts'
import { trainingGraph, gradientOf } from '../../../src/train/graphs.ts'
import { prefixShape } from '../../../src/train/parameters.ts'
import { assertClose, golden, goldenFeeds, goldenFolder, relativeError, toTensor } from '../../golden/gpt2.ts'
import { tinyData } from '../../train/tiny.ts'
import { testTraining } from '../training-contract.ts'
import { testCuda } from './runtimes.ts'

const { skip } = testCuda

testTraining({
  skip,
  open: () => testCuda.open(),
  data: tinyData(),
  epochs: 3,
  steps: { beside: 12, stopped: 7, shared: 8 },
})

test('with weights in bfloat16 losses and gradients stay within what its 8 bits of fraction allow', {
  skip,
}, async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const runtime = testCuda.open({ checked: true })
  const graph = trainingGraph(model, prefixShape(model.config, golden.prefixLength, 0))
  const form = await runtime.fastForm(graph, model.weights)
  assert.equal(form, 'bfloat16')
  const program = await runtime.compile(graph, model.weights, form)
  const prefix = { keys: toTensor(golden.prefix['keys']!), values: toTensor(golden.prefix['values']!) }
  const outputs = await program.run({ ...goldenFeeds('mean'), ...prefix })
  await program.dispose()
  // A number is rounded by up to 2⁻⁹ of itself, at some dozens of places one after the other.
  assertClose('losses', outputs['tokenLosses']!.data, golden.expected.tokenLosses.data, 0.01)
  for (const [name, expected] of Object.entries(golden.expected.gradients.mean)) {
    const error = relativeError(outputs[gradientOf(name)]!.data, expected.data)
    assert.ok(
      error < 0.03 && error > 1e-6,
      `gradient of ${name} is off by ${error}: too much, or not in bfloat16 at all`,
    )
  }
})
