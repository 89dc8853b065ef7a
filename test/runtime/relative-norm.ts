// How far one vector is from another, for results that are near on the whole and not number by number.
import type { TensorData } from '../../src/tensor/tensor.ts'

/** ‖got − expected‖ / ‖expected‖ */
export function relativeNorm(got: TensorData, expected: TensorData): number {
  let [difference, size] = [0, 0]
  expected.forEach((value, i) => {
    difference += ((got[i] as number) - value) ** 2
    size += value ** 2
  })
  return Math.sqrt(difference / size)
}
