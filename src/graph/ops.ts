// The op vocabulary. A new op starts here; the compiler then names every table that lacks it.
import type { DType } from '../tensor/tensor.ts'
import type { Shape } from './shape.ts'

/** One output of a node. */
export interface Value {
  readonly node: AnyNode
  readonly index: number
  readonly shape: Shape
  readonly dtype: DType
}

export interface Node<Op extends OpName = OpName> {
  readonly op: Op
  readonly inputs: Ops[Op]['inputs']
  readonly attributes: Ops[Op]['attributes']
  readonly outputs: readonly Value[]
}

/** A node of some op: switching on `op` tells which. */
export type AnyNode = { [Op in OpName]: Node<Op> }[OpName]

interface Op<Inputs extends readonly Value[], Attributes = object> {
  readonly inputs: Inputs
  readonly attributes: Attributes
}

type AttentionInputs = readonly [
  query: Value, // [batch, query, heads·headDim]
  key: Value, // [batch, query, heads·headDim]
  value: Value, // [batch, query, heads·headDim]
  pastKey: Value, // [batch or 1, heads, headDim, past]
  pastValue: Value, // [batch or 1, heads, past, headDim]
  pastLengths: Value, // int32 [batch or 1], or [batch or 1, query]: how many past positions each row, or each query, sees
]

/** Keys and values that lie in a past, and such as come beside it. A query sees one of them at least. */
type CrossAttentionInputs =
  | readonly [
      query: Value, // [batch, query, heads·headDim]
      pastKey: Value, // [batch or 1, heads, headDim, past]
      pastValue: Value, // [batch or 1, heads, past, headDim]
      pastLengths: Value, // int32 [batch or 1]: how many past positions the queries of a row see
    ]
  | readonly [
      query: Value,
      pastKey: Value,
      pastValue: Value,
      pastLengths: Value,
      key: Value, // [batch, source, heads·headDim]
      value: Value, // [batch, source, heads·headDim]
      keyLengths: Value, // int32 [batch]: how many of the keys the queries of a row see
    ]

type CrossEntropyInputs =
  | readonly [hidden: Value, table: Value, labels: Value]
  | readonly [hidden: Value, table: Value, labels: Value, bias: Value]

export interface Ops {
  /** Fed anew at each run. */
  input: Op<readonly [], { readonly name: string; readonly shape: Shape; readonly dtype: DType }>
  /** A frozen tensor of the model, by its name in the checkpoint. */
  weight: Op<readonly [], { readonly name: string; readonly shape: Shape }>
  constant: Op<readonly [], { readonly fill: number; readonly shape: Shape }>

  add: Op<readonly [x: Value, y: Value]>
  mul: Op<readonly [x: Value, y: Value]>
  tanh: Op<readonly [x: Value]>

  /** x · w + b over the last axis of x; w is [in, out], or [out, in] where `transposed`. */
  linear: Op<readonly [x: Value, w: Value] | readonly [x: Value, w: Value, b: Value], { readonly transposed: boolean }>
  /** xᵀ · y with every axis but the last taken as rows: [..., m] and [..., n] give [m, n]. */
  outer: Op<readonly [x: Value, y: Value]>

  reshape: Op<readonly [x: Value], { readonly shape: Shape }>
  transpose: Op<readonly [x: Value], { readonly permutation: readonly number[] }>
  /** One output per size. */
  split: Op<readonly [x: Value], { readonly axis: number; readonly sizes: readonly number[] }>
  concat: Op<readonly Value[], { readonly axis: number }>
  /** Sums away what broadcasting to the shape of x had added. */
  sumTo: Op<readonly [x: Value], { readonly shape: Shape }>
  broadcastTo: Op<readonly [x: Value], { readonly shape: Shape }>

  /** The rows of several values [..., d] under each other: [rows, d]. `rows` names how many those are together. */
  joinRows: Op<readonly Value[], { readonly rows: string }>
  /** x [rows, d] cut into consecutive parts of the given shapes [..., d]. */
  splitRows: Op<readonly [x: Value], { readonly shapes: readonly Shape[] }>

  /** Rows of x [..., d], numbered over all axes but the last, at int32 indices [...]. */
  gather: Op<readonly [x: Value, indices: Value]>
  /** Adds rows [..., d] into zeros of `shape` at int32 indices [...]. */
  scatterAdd: Op<readonly [rows: Value, indices: Value], { readonly shape: Shape }>

  /** Over the last axis (Ba et al. 2016). */
  layerNorm: Op<readonly [x: Value, scale: Value, shift: Value], { readonly epsilon: number }>
  layerNormGrad: Op<readonly [x: Value, scale: Value, shift: Value, ct: Value], { readonly epsilon: number }>

  /** GPT-2's tanh form, `gelu_new` (Hendrycks & Gimpel 2016, section 2). */
  gelu: Op<readonly [x: Value]>
  geluGrad: Op<readonly [x: Value, ct: Value]>
  /** x·Φ(x) with the normal distribution itself (Hendrycks & Gimpel 2016, section 2), BART's form. */
  exactGelu: Op<readonly [x: Value]>
  exactGeluGrad: Op<readonly [x: Value, ct: Value]>

  /** Causal multi-head attention over past keys and values and the new ones (Vaswani et al. 2017, equation 1). */
  attention: Op<AttentionInputs, { readonly heads: number }>
  /** Outputs: the cotangents of query, key, value, pastKey and pastValue. */
  attentionGrad: Op<readonly [...AttentionInputs, ct: Value], { readonly heads: number }>
  /** Multi-head attention in which every query of a row sees the same: a past, and keys from wherever, in no order. */
  crossAttention: Op<CrossAttentionInputs, { readonly heads: number }>
  /** Outputs: the cotangents of query, pastKey and pastValue; then of key and value where there are any. */
  crossAttentionGrad: Op<readonly [...CrossAttentionInputs, ct: Value], { readonly heads: number }>

  /**
   * (1 − ε)·nll[label] + ε·mean nll of each row, with nll = −log softmax(hidden · tableᵀ) and ε = `smoothing` (Szegedy et al. 2016,
   * section 7): hidden [rows, d], table [vocabulary, d], labels int32 [rows]; bias [vocabulary], added to hidden · tableᵀ.
   */
  crossEntropy: Op<CrossEntropyInputs, { readonly smoothing: number }>
  crossEntropyGrad: Op<readonly [...CrossEntropyInputs, ct: Value], { readonly smoothing: number }>
}

export type OpName = keyof Ops
