// A dense array with a shape: the only thing that crosses between host code and a runtime.

export type DType = 'float32' | 'int32'
export type TensorData = Float32Array | Float64Array | Int32Array

/** Row-major. The reference runtime answers float32 values as Float64Array, so that nothing is rounded on the way. */
export interface Tensor {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly data: TensorData
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, extent) => size * extent, 1)
}

export function float32(data: Float32Array | Float64Array, shape: readonly number[]): Tensor {
  return { dtype: 'float32', shape, data }
}

export function int32(data: Int32Array, shape: readonly number[]): Tensor {
  return { dtype: 'int32', shape, data }
}
