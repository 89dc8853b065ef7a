// The vector-Jacobian product of each op: from the cotangents of its outputs to one for each input.
import assert from 'node:assert/strict'
import type { GraphBuilder } from './builder.ts'
import type { Node, OpName, Value } from './ops.ts'
import { sameShape, type Dim, type Shape } from './shape.ts'

/** One entry per input; null where no gradient flows. A broadcast input may get the wider shape: gradient() sums it. */
type Cotangents = readonly (Value | null)[]

/** `needed` says which inputs lie on the way to a target: a rule leaves the others out where they would cost. */
type VjpRule<Op extends OpName> = (
  g: GraphBuilder,
  node: Node<Op>,
  ct: readonly Value[],
  needed: readonly boolean[],
) => Cotangents

const noSecondDerivative = (_g: GraphBuilder, { op }: { readonly op: OpName }): never =>
  assert.fail(`${op} is a gradient itself and has none`)

export const vjpRules: { readonly [Op in OpName]: VjpRule<Op> } = {
  input: () => [],
  weight: () => [],
  constant: () => [],

  add: (_g, _node, [ct]) => [ct!, ct!],
  mul: (g, { inputs: [x, y] }, [ct]) => [times(g, ct!, y), times(g, ct!, x)],
  // d tanh(x)/dx = 1 − tanh²(x), and the node itself is tanh(x).
  tanh: (g, { outputs: [y] }, [ct]) => [g.mul(ct!, g.add(g.constant(1), g.scale(g.mul(y!, y!), -1)))],

  // y = x·w + b, so dx = dy·wᵀ, dw = xᵀ·dy and db = dy summed over rows.
  linear: (g, { inputs: [x, w, b], attributes: { transposed } }, [ct], needed) => [
    needed[0] ? g.linear(ct!, w, null, { transposed: !transposed }) : null,
    needed[1] ? (transposed ? g.outer(ct!, x) : g.outer(x, ct!)) : null,
    needed[2] && b !== undefined ? g.sumTo(ct!, b.shape) : null,
  ],
  // y = xᵀ·z over rows, so dx = z·dyᵀ and dz = x·dy.
  outer: (g, { inputs: [x, y] }, [ct]) => [g.linear(y, ct!, null, { transposed: true }), g.linear(x, ct!, null)],

  reshape: (g, { inputs: [x] }, [ct]) => [g.reshape(ct!, x.shape)],
  transpose: (g, { attributes: { permutation } }, [ct]) => [
    g.transpose(
      ct!,
      permutation.map((_, axis) => permutation.indexOf(axis)),
    ),
  ],
  split: (g, { attributes: { axis } }, cts) => [g.concat(cts, axis)],
  concat: (g, { inputs, attributes: { axis } }, [ct]) =>
    g.split(
      ct!,
      axis,
      inputs.map((input) => input.shape[axis] as number),
    ),
  sumTo: (g, { inputs: [x] }, [ct]) => [spread(g, ct!, x.shape)],
  broadcastTo: (g, { inputs: [x] }, [ct]) => [g.sumTo(ct!, x.shape)],

  joinRows: (g, { inputs }, [ct]) =>
    g.splitRows(
      ct!,
      inputs.map(({ shape }) => shape),
    ),
  splitRows: (g, { inputs: [x] }, cts) => [g.joinRows(cts, x.shape[0] as string)],

  gather: (g, { inputs: [x, indices] }, [ct]) => [g.scatterAdd(ct!, indices, x.shape), null],
  scatterAdd: (g, { inputs: [, indices] }, [ct]) => [g.gather(ct!, indices), null],

  // y = scale·x̂ + shift, and x̂ is a layer norm with scale 1 and shift 0.
  layerNorm: (g, { inputs, attributes: { epsilon } }, [ct], needed) => {
    const [x, scale, shift] = inputs
    const width: Dim = scale.shape[0] as Dim
    const normalized = (): Value => g.layerNorm(x, g.constant(1, [width]), g.constant(0, [width]), epsilon)
    return [
      needed[0] ? g.layerNormGrad(inputs, ct!, epsilon) : null,
      needed[1] ? g.sumTo(g.mul(ct!, normalized()), scale.shape) : null,
      needed[2] ? g.sumTo(ct!, shift.shape) : null,
    ]
  },
  layerNormGrad: noSecondDerivative,
  gelu: (g, { inputs: [x] }, [ct]) => [g.geluGrad(x, ct!)],
  geluGrad: noSecondDerivative,

  exactGelu: (g, { inputs: [x] }, [ct]) => [g.exactGeluGrad(x, ct!)],
  exactGeluGrad: noSecondDerivative,

  attention: (g, { inputs, attributes: { heads } }, [ct]) => [...g.attentionGrad(inputs, ct!, heads), null],
  attentionGrad: noSecondDerivative,
  crossAttention: (g, { inputs, attributes: { heads } }, [ct]) => {
    const [dQuery, dPastKey, dPastValue, dKey, dValue] = g.crossAttentionGrad(inputs, ct!, heads)
    return [dQuery!, dPastKey!, dPastValue!, null, dKey ?? null, dValue ?? null, null].slice(0, inputs.length)
  },
  crossAttentionGrad: noSecondDerivative,

  crossEntropy: (g, { inputs, attributes: { smoothing } }, [ct], needed) => {
    assert.ok(!needed[1] && needed[3] !== true, 'crossEntropy: its table and bias are frozen and get no gradient')
    return [g.crossEntropyGrad(inputs, ct!, smoothing), ...inputs.slice(1).map(() => null)]
  },
  crossEntropyGrad: noSecondDerivative,
}

/** ct · y; a cotangent of ones, as that of a weighted sum is, leaves y as it is. */
function times(g: GraphBuilder, ct: Value, y: Value): Value {
  const { op, attributes } = ct.node
  return op === 'constant' && attributes.fill === 1 && sameShape(ct.shape, y.shape) ? y : g.mul(ct, y)
}

function spread(g: GraphBuilder, ct: Value, shape: Shape): Value {
  return ct.node.op === 'constant' ? g.constant(ct.node.attributes.fill, shape) : g.broadcastTo(ct, shape)
}
