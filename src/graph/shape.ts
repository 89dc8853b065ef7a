// Shapes whose extents are numbers or names: `['B', 'T', 768]` is any batch of any length.
import assert from 'node:assert/strict'

/** A name stands for one extent, the same wherever it appears in a graph; each run binds it anew. */
export type Dim = number | string
export type Shape = readonly Dim[]

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis])
}

/** Numpy's rule: shapes are aligned at their last axes, and an extent of 1 stretches. */
export function broadcastShapes(a: Shape, b: Shape): Shape {
  if (a.length < b.length) return broadcastShapes(b, a)
  const offset = a.length - b.length
  return a.map((dim, axis) => {
    const other = axis < offset ? 1 : (b[axis - offset] as Dim)
    assert.ok(dim === other || dim === 1 || other === 1, `cannot broadcast [${a}] with [${b}]`)
    return dim === 1 ? other : dim
  })
}

/** The extents of a named shape, once every name is bound. */
export function bindShape(shape: Shape, bindings: ReadonlyMap<string, number>): number[] {
  return shape.map((dim) => {
    if (typeof dim === 'number') return dim
    const extent = bindings.get(dim)
    assert.ok(extent !== undefined, `dimension ${dim} is bound by no input`)
    return extent
  })
}
