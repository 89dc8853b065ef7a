// What a runtime for the frozen model alone would have kernels for, in tests of cutting.
import type { AnyNode, Value } from '../../src/graph/ops.ts'
import { sameShape } from '../../src/graph/shape.ts'

const always = new Set<AnyNode['op']>([
  'input',
  'weight',
  'constant',
  'gather',
  'scatterAdd',
  'layerNorm',
  'layerNormGrad',
  'gelu',
  'geluGrad',
  'exactGelu',
  'exactGeluGrad',
  'reshape',
  'split',
  'concat',
  'joinRows',
  'splitRows',
  'attention',
  'attentionGrad',
  'crossAttention',
  'crossAttentionGrad',
  'crossEntropy',
  'crossEntropyGrad',
])

const isWeight = ({ node }: Value): boolean =>
  node.op === 'weight' || (node.op === 'reshape' && isWeight(node.inputs[0]))

/** Transposes only where rows stay rows. */
export function supportsModel(node: AnyNode): boolean {
  switch (node.op) {
    case 'linear':
      return node.inputs.slice(1).every((input) => isWeight(input))
    case 'add':
      return sameShape(node.inputs[0].shape, node.inputs[1].shape)
    case 'mul':
      return node.inputs.some((input) => input.node.op === 'constant')
    case 'transpose':
      return node.attributes.permutation.at(-1) === node.attributes.permutation.length - 1
    default:
      return always.has(node.op)
  }
}

/** Past keys too, which a kernel may read position by position. */
export function supportsTurned(node: AnyNode): boolean {
  return supportsModel(node) || (node.op === 'transpose' && node.attributes.permutation.join() === '0,1,3,2')
}
