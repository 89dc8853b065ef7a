// Ops of one input that keep its shape: row by row where it has rows.
import type { Node, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'

export function lowerUnary(
  e: Emitter,
  node: Node<'tanh'> | Node<'gelu'> | Node<'exactGelu'>,
  emit: (x: string) => string,
): void {
  const [x] = node.inputs
  const output = node.outputs[0] as Value
  if (x.shape.length > 1) e.setFlat(output, emit(e.flat(x)))
  else e.setFull(output, emit(e.full(x)))
}
