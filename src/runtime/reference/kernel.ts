// What a float64 kernel takes and gives.
import type { Node, OpName } from '../../graph/ops.ts'

export interface Dense {
  readonly shape: readonly number[]
  readonly data: Float64Array | Int32Array
}

/** The outputs of a node, of the given shapes, from its inputs. */
export type Kernel<Op extends OpName> = (
  node: Node<Op>,
  inputs: readonly Dense[],
  shapes: readonly (readonly number[])[],
) => Float64Array[]
