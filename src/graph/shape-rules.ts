// The shape rule of each op: the shapes of its outputs, or an assertion that says what does not fit.
import assert from 'node:assert/strict'
import type { OpName, Ops, Value } from './ops.ts'
import { broadcastShapes, sameShape, type Dim, type Shape } from './shape.ts'

type ShapeRule<Op extends OpName> = (inputs: Ops[Op]['inputs'], attributes: Ops[Op]['attributes']) => readonly Shape[]

const lastOf = (value: Value): Dim => value.shape.at(-1) as Dim

function assertSame(op: string, a: Value, b: Value): void {
  assert.ok(sameShape(a.shape, b.shape), `${op}: [${a.shape}] and [${b.shape}] differ`)
}

function assertInt(op: string, value: Value): void {
  assert.equal(value.dtype, 'int32', `${op}: indices must be int32, not ${value.dtype}`)
}

export const shapeRules: { readonly [Op in OpName]: ShapeRule<Op> } = {
  input: (_, { shape }) => [shape],
  weight: (_, { shape }) => [shape],
  constant: (_, { shape }) => [shape],

  add: ([x, y]) => [broadcastShapes(x.shape, y.shape)],
  mul: ([x, y]) => [broadcastShapes(x.shape, y.shape)],
  tanh: ([x]) => [x.shape],

  linear: ([x, w, b], { transposed }) => {
    const [rows, columns] = w.shape as [Dim, Dim]
    const [inner, outer] = transposed ? [columns, rows] : [rows, columns]
    assert.equal(
      lastOf(x),
      inner,
      `linear: x [${x.shape}] does not fit w [${w.shape}]${transposed ? ' transposed' : ''}`,
    )
    assert.ok(b === undefined || sameShape(b.shape, [outer]), `linear: bias [${b?.shape}] is not [${outer}]`)
    return [[...x.shape.slice(0, -1), outer]]
  },
  outer: ([x, y]) => {
    const rows = [x.shape.slice(0, -1), y.shape.slice(0, -1)] as const
    assert.ok(sameShape(...rows), `outer: rows [${rows[0]}] and [${rows[1]}] differ`)
    return [[lastOf(x), lastOf(y)]]
  },

  reshape: (_, { shape }) => [shape],
  transpose: ([x], { permutation }) => {
    assert.deepEqual(
      permutation.toSorted((a, b) => a - b),
      x.shape.map((_, axis) => axis),
      `transpose: [${permutation}] is no order of axes`,
    )
    return [permutation.map((axis) => x.shape[axis] as Dim)]
  },
  split: ([x], { axis, sizes }) => {
    const sum = sizes.reduce((a, b) => a + b, 0)
    assert.equal(x.shape[axis], sum, `split: [${sizes}] does not add up to axis ${axis} of [${x.shape}]`)
    return sizes.map((size) => x.shape.with(axis, size))
  },
  concat: (inputs, { axis }) => {
    const first = inputs[0] as Value
    const extents = inputs.map((input) => {
      assert.ok(
        sameShape(input.shape.with(axis, 0), first.shape.with(axis, 0)),
        `concat: [${input.shape}] does not fit [${first.shape}]`,
      )
      return input.shape[axis]
    })
    const total = extents.reduce<number>((sum, extent) => {
      assert.ok(typeof extent === 'number', `concat: axis ${axis} must have a number`)
      return sum + extent
    }, 0)
    return [first.shape.with(axis, total)]
  },
  sumTo: ([x], { shape }) => {
    assert.ok(
      sameShape(broadcastShapes(x.shape, shape), x.shape),
      `sumTo: [${shape}] does not broadcast to [${x.shape}]`,
    )
    return [shape]
  },
  broadcastTo: ([x], { shape }) => {
    assert.ok(
      sameShape(broadcastShapes(x.shape, shape), shape),
      `broadcastTo: [${x.shape}] does not broadcast to [${shape}]`,
    )
    return [shape]
  },

  joinRows: (inputs, { rows }) => {
    const width = lastOf(inputs[0] as Value)
    for (const input of inputs) assert.equal(lastOf(input), width, `joinRows: [${input.shape}] beside rows of ${width}`)
    return [[rows, width]]
  },
  splitRows: ([x], { shapes }) => {
    for (const shape of shapes) assert.equal(shape.at(-1), lastOf(x), `splitRows: [${shape}] cut from [${x.shape}]`)
    return shapes
  },

  gather: ([x, indices]) => {
    assertInt('gather', indices)
    return [[...indices.shape, lastOf(x)]]
  },
  scatterAdd: ([rows, indices], { shape }) => {
    assertInt('scatterAdd', indices)
    assert.ok(
      sameShape(rows.shape, [...indices.shape, shape.at(-1) as Dim]),
      `scatterAdd: rows [${rows.shape}], indices [${indices.shape}]`,
    )
    return [shape]
  },

  layerNorm: ([x, scale, shift]) => {
    assert.deepEqual(
      [scale.shape, shift.shape],
      [[lastOf(x)], [lastOf(x)]],
      `layerNorm: scale or shift does not fit [${x.shape}]`,
    )
    return [x.shape]
  },
  layerNormGrad: ([x, , , ct]) => {
    assertSame('layerNormGrad', x, ct)
    return [x.shape]
  },
  gelu: ([x]) => [x.shape],
  geluGrad: ([x, ct]) => {
    assertSame('geluGrad', x, ct)
    return [x.shape]
  },

  exactGelu: ([x]) => [x.shape],
  exactGeluGrad: ([x, ct]) => {
    assertSame('exactGeluGrad', x, ct)
    return [x.shape]
  },

  attention: (inputs, { heads }) => attentionShape(inputs, heads),
  attentionGrad: (inputs, { heads }) => {
    const [query, key, value, pastKey, pastValue, pastLengths, ct] = inputs
    attentionShape([query, key, value, pastKey, pastValue, pastLengths], heads)
    assertSame('attentionGrad', query, ct)
    return [query.shape, key.shape, value.shape, pastKey.shape, pastValue.shape]
  },
  crossAttention: (inputs, { heads }) => crossAttentionShape(inputs, heads),
  crossAttentionGrad: (inputs, { heads }) => {
    const ct = inputs.at(-1) as Value
    const given = inputs.slice(0, -1) as unknown as Ops['crossAttention']['inputs']
    const [query, pastKey, pastValue, , key, value] = given
    crossAttentionShape(given, heads)
    assertSame('crossAttentionGrad', query, ct)
    return [query, pastKey, pastValue, key, value].filter((each) => each !== undefined).map(({ shape }) => shape)
  },

  crossEntropy: ([hidden, table, labels, bias], { smoothing }) => {
    assert.ok(
      bias === undefined || sameShape(bias.shape, table.shape.slice(0, 1)),
      `crossEntropy: bias [${bias?.shape}] does not fit table [${table.shape}]`,
    )
    assertInt('crossEntropy', labels)
    assert.ok(smoothing >= 0 && smoothing < 1, `crossEntropy: smoothing is ${smoothing}, not from 0 to below 1`)
    assert.equal(
      lastOf(hidden),
      lastOf(table),
      `crossEntropy: hidden [${hidden.shape}] does not fit table [${table.shape}]`,
    )
    assert.ok(
      sameShape(labels.shape, hidden.shape.slice(0, -1)),
      `crossEntropy: labels [${labels.shape}], hidden [${hidden.shape}]`,
    )
    return [labels.shape]
  },
  crossEntropyGrad: (inputs) => {
    const [hidden, , labels] = inputs
    assertInt('crossEntropyGrad', labels)
    assertSame('crossEntropyGrad', labels, inputs.at(-1) as Value)
    return [hidden.shape]
  },
}

function attentionShape(inputs: Ops['attention']['inputs'], heads: number): readonly Shape[] {
  const [query, key, value, pastKey, pastValue, pastLengths] = inputs
  assertSame('attention', query, key)
  assertSame('attention', key, value)
  assertInt('attention', pastLengths)
  const [batch, queries] = query.shape as [Dim, Dim, number]
  assertPast('attention', query, pastKey, pastValue, heads)
  const [lengthsBatch, lengthsQueries = queries, ...more] = pastLengths.shape
  assert.ok(
    (lengthsBatch === batch || lengthsBatch === 1) && lengthsQueries === queries && more.length === 0,
    `attention: past lengths are [${pastLengths.shape}] for queries [${query.shape}]`,
  )
  return [query.shape]
}

function crossAttentionShape(inputs: Ops['crossAttention']['inputs'], heads: number): readonly Shape[] {
  const [query, pastKey, pastValue, pastLengths, key, value, keyLengths] = inputs
  const [batch, , width] = query.shape as [Dim, Dim, number]
  assertPast('crossAttention', query, pastKey, pastValue, heads)
  assertInt('crossAttention', pastLengths)
  const [lengthsBatch, ...more] = pastLengths.shape
  assert.ok(
    (lengthsBatch === batch || lengthsBatch === 1) && more.length === 0,
    `crossAttention: past lengths are [${pastLengths.shape}] for queries [${query.shape}]`,
  )
  if (key === undefined || value === undefined || keyLengths === undefined) return [query.shape]
  assertSame('crossAttention', key, value)
  assertInt('crossAttention', keyLengths)
  const [keyBatch, , keyWidth] = key.shape
  assert.ok(
    keyBatch === batch && keyWidth === width && sameShape(keyLengths.shape, [batch]),
    `crossAttention: keys [${key.shape}] and their lengths [${keyLengths.shape}] for queries [${query.shape}]`,
  )
  return [query.shape]
}

function assertPast(op: string, query: Value, pastKey: Value, pastValue: Value, heads: number): void {
  const [batch, , width] = query.shape as [Dim, Dim, number]
  assert.ok(width % heads === 0, `${op}: width ${width} is no multiple of ${heads} heads`)
  const [pastBatch, , , past] = pastKey.shape as [Dim, Dim, Dim, Dim]
  assert.ok(pastBatch === batch || pastBatch === 1, `${op}: past of batch ${pastBatch} with queries of batch ${batch}`)
  const headDim = width / heads
  assert.ok(sameShape(pastKey.shape, [pastBatch, heads, headDim, past]), `${op}: past keys are [${pastKey.shape}]`)
  assert.ok(
    sameShape(pastValue.shape, [pastBatch, heads, past, headDim]),
    `${op}: past values are [${pastValue.shape}]`,
  )
}
