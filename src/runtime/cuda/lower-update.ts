// What follows the backward pass of a training step: gradients added up, their norm, and AdamW.
import type { TrainingUpdate } from '../training.ts'
import { at, type Lowering } from './lowering.ts'
import { Storage, type KernelArgument } from './steps.ts'
import type { DeviceTrainables } from './trainables.ts'

/** Whose sums of squares are added up by one block. */
const normBlocksMax = 256

export interface DeviceUpdate extends TrainingUpdate {
  readonly trainables: DeviceTrainables
}

/** Beside the graph's own, for the update `m` of a step: the factors of AdamW in, the norm out. */
export const factorsOf = (m: number): string => `factors of update ${m}`
export const normOf = (m: number): string => `norm of update ${m}`

/** Where gradients go: straight to the others of their training; on their way to a sum, anywhere. */
export function gradientGoals(
  updates: readonly DeviceUpdate[],
  bytesOf: (output: string) => number,
): Map<string, Storage> {
  return new Map(
    updates.flatMap(({ trainables, places, adds }) =>
      [...places].map(([name, { gradient }]) => {
        const address = trainables.addressOf('gradients', name)
        return [gradient, new Storage(bytesOf(gradient), adds ? 'arena' : 'resident', adds ? null : address)] as const
      }),
    ),
  )
}

/** The trainables by the inputs that they are. */
export function residentInputs(updates: readonly DeviceUpdate[]): Map<string, bigint> {
  return new Map(
    updates.flatMap(({ trainables, places }) =>
      [...places].map(([name, { input }]) => [input, trainables.addressOf('parameters', name)] as const),
    ),
  )
}

export function appendUpdate(l: Lowering, m: number, { trainables, places, adds, step }: DeviceUpdate): void {
  if (adds) for (const [name, { gradient }] of places) appendSum(l, gradient, trainables.addressOf('gradients', name))
  if (step === null) return
  const { count, options } = trainables
  const resident = (group: 'parameters' | 'first' | 'second' | 'gradients'): KernelArgument =>
    at({ storage: new Storage(4 * count, 'resident', trainables.addressOf(group)), offset: 0 })
  const [norm, factors] = [new Storage(4, 'output'), new Storage(12, 'input')]
  l.outputs.set(normOf(m), norm)
  l.inputs.set(factorsOf(m), factors)
  const blocks = Math.min(normBlocksMax, Math.ceil(count / 1024))
  const sums = { storage: l.temporary(blocks), offset: 0 }
  l.blocks('squares', [blocks, 1, 1], 256, [resident('gradients'), at(sums), { int: count }], 4 * count)
  const normAt = at({ storage: norm, offset: 0 })
  l.blocks('norm_of', [1, 1, 1], 256, [at(sums), normAt, { int: blocks }], 4 * blocks)
  const { beta1, beta2, epsilon, clipNorm } = options
  const struct = new Uint8Array(Float32Array.of(beta1, beta2, 1 - beta1, 1 - beta2, epsilon, clipNorm).buffer)
  const state = (['parameters', 'first', 'second', 'gradients'] as const).map(resident)
  const args = [...state, normAt, at({ storage: factors, offset: 0 }), { struct }, { int: count }]
  l.kernel('adamw', count, args, 28 * count, 4)
}

function appendSum(l: Lowering, gradient: string, address: bigint): void {
  const own = l.goalOf(gradient)
  const count = own.bytes / 4
  const sum = { storage: new Storage(own.bytes, 'resident', address), offset: 0 }
  l.kernel('accumulate', count, [at({ storage: own, offset: 0 }), at(sum), { int: count }], 12 * count, 4)
}
