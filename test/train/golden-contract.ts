// The whole model against PyTorch on a runtime: losses and every gradient by name.
import { test } from 'node:test'
import { foldGraph, gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { assertClose, golden, toTensor } from '../golden/gpt2.ts'
import { type GoldenRuntime, model } from './golden-runs.ts'

const direct = prefixShape(model.config, golden.prefixLength, 0)
const network = prefixShape(model.config, golden.prefixLength, golden.middle)

export function testGolden({ name, skip, tolerance, run, feeds }: GoldenRuntime): void {
  for (const reduction of ['sum', 'mean'] as const) {
    test(`${name}: losses and prefix gradients of the ${reduction} agree with PyTorch`, { skip }, async () => {
      const prefix = { keys: toTensor(golden.prefix['keys']!), values: toTensor(golden.prefix['values']!) }
      const outputs = await run(trainingGraph(model, direct), { ...feeds(reduction), ...prefix })
      assertClose('token losses', outputs['tokenLosses']!.data, golden.expected.tokenLosses.data, tolerance)
      for (const [parameter, expected] of Object.entries(golden.expected.gradients[reduction])) {
        assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
      }
    })
  }

  test(`${name}: the reparametrized prefix and the gradients of its five parameters agree with PyTorch`, {
    skip,
  }, async () => {
    const parameters = Object.fromEntries(Object.entries(golden.network).map(([key, value]) => [key, toTensor(value)]))
    const folded = await run(foldGraph(model, network), parameters)
    assertClose('keys', folded['folded.keys']!.data, golden.expected.reparametrized.keys.data, tolerance)
    assertClose('values', folded['folded.values']!.data, golden.expected.reparametrized.values.data, tolerance)
    const outputs = await run(trainingGraph(model, network), { ...feeds('sum'), ...parameters })
    for (const [parameter, expected] of Object.entries(golden.expected.reparametrized.gradients)) {
      assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
    }
  })
}
