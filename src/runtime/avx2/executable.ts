// A lowered program with every address in its place, ready to be run by some threads.
import { planMemory } from '../memory-plan.ts'
import { attentionScratch } from './kernels/attention.ts'
import { gemmScratch } from './kernels/gemm-slots.ts'
import { headerSlots, operationBytes, operationSlots } from './kernels/lane.ts'
import { productScratch } from './kernels/product.ts'
import type { Lowered } from './lower.ts'
import { addressOf } from './machine-code.ts'
import type { KernelName, Storage } from './steps.ts'

/** Of vectors and lines of the caches. */
const alignment = 64
const slotsOfOperation = operationBytes / 8

export interface MemoryNeed {
  readonly arena: number
  /** Of each thread. */
  readonly scratch: number
}

export class Executable {
  readonly need: MemoryNeed
  /** What each operation runs. */
  readonly kernels: readonly KernelName[]
  readonly outputs: ReadonlyMap<string, number>
  readonly inputs: ReadonlyMap<string, number>
  readonly #program: BigUint64Array
  /** A program of one operation. */
  readonly #alone = new BigUint64Array(2 * slotsOfOperation)
  readonly #arguments: BigUint64Array
  readonly #fed: readonly { readonly name: string; readonly slot: number; readonly offset: bigint }[]
  /** Slots that hold places in the arena, and how far behind its beginning. */
  readonly #placed: readonly (readonly [slot: number, offset: bigint])[]
  #arena = 0n

  constructor({ lowering, inputs }: Lowered, kernelAt: (name: string) => bigint, constants: bigint) {
    const { steps, outputs } = lowering
    const storages = [
      ...new Set([...steps.flatMap(({ storages }) => storages), ...inputs.values(), ...outputs.values()]),
    ].filter(({ kind }) => kind === 'arena' || kind === 'input' || kind === 'output')
    const lifetimes = storages.map(({ bytes, kind, first, last }) => ({
      bytes,
      first: kind === 'input' ? 0 : Math.min(first, steps.length),
      last: kind === 'output' ? steps.length : Math.max(last, 0),
    }))
    const plan = planMemory(lifetimes, { alignment })
    const offsets = new Map(storages.map((storage, i) => [storage, plan.offsets[i] as number]))
    const offsetOf = (storage: Storage): number => offsets.get(storage) as number
    this.need = {
      arena: plan.bytes + alignment,
      scratch: Math.max(gemmScratch, productScratch, attentionScratch(lowering.positionsSeen)),
    }
    this.kernels = steps.map(({ kernel }) => kernel)
    this.inputs = new Map([...inputs].map(([name, storage]) => [name, offsetOf(storage)]))
    this.outputs = new Map([...outputs].map(([name, storage]) => [name, offsetOf(storage)]))

    this.#arguments = new BigUint64Array(steps.reduce((sum, step) => sum + step.arguments.length, 0))
    const halves = new Uint32Array(this.#arguments.buffer)
    this.#program = new BigUint64Array((steps.length + 1) * slotsOfOperation)
    this.#program[headerSlots.indexOf('operations')] = BigInt(steps.length)
    this.#program[headerSlots.indexOf('constants')] = constants
    const fed: { name: string; slot: number; offset: bigint }[] = []
    const placed: (readonly [number, bigint])[] = []
    const argumentsAt = addressOf(this.#arguments)
    let slot = 0
    for (const [i, step] of steps.entries()) {
      const operation = (i + 1) * slotsOfOperation
      this.#program[operation + operationSlots.indexOf('kernel')] = kernelAt(step.kernel)
      this.#program[operation + operationSlots.indexOf('arguments')] = argumentsAt + BigInt(8 * slot)
      this.#program[operation + operationSlots.indexOf('chunks')] = BigInt(step.chunks)
      for (const argument of step.arguments) {
        if (typeof argument === 'number') {
          // Two halves: hundreds of big integers would take longer than the step.
          halves[2 * slot] = argument
          halves[2 * slot + 1] = argument / 2 ** 32
        } else if (argument !== null && 'float' in argument) halves[2 * slot] = floatBits(argument.float)
        else if (argument !== null) {
          const { storage, offset } = argument.place
          const inside = BigInt(4 * offset)
          if (storage.kind === 'fed') fed.push({ name: storage.name as string, slot, offset: inside })
          else if (storage.kind === 'resident') this.#arguments[slot] = storage.address + inside
          else placed.push([slot, BigInt(offsetOf(storage)) + inside])
        }
        slot += 1
      }
    }
    this.#fed = fed
    this.#placed = placed
  }

  /** The program's address, its work not begun yet. `arena` is aligned; `fedAt` tells where inputs lie. */
  prepare(arena: bigint, fedAt: (name: string) => bigint): bigint {
    if (arena !== this.#arena) {
      for (const [slot, offset] of this.#placed) this.#arguments[slot] = arena + offset
      this.#arena = arena
    }
    for (const { name, slot, offset } of this.#fed) this.#arguments[slot] = fedAt(name) + offset
    for (let at = slotsOfOperation; at < this.#program.length; at += slotsOfOperation) {
      this.#program[at + operationSlots.indexOf('taken')] = 0n
      this.#program[at + operationSlots.indexOf('done')] = 0n
    }
    return addressOf(this.#program)
  }

  /** The address of one operation of the prepared program, as a program until the next is asked for. */
  alone(operation: number): bigint {
    const at = (operation + 1) * slotsOfOperation
    this.#alone.set(this.#program.subarray(0, slotsOfOperation))
    this.#alone[headerSlots.indexOf('operations')] = 1n
    this.#alone.set(this.#program.subarray(at, at + slotsOfOperation), slotsOfOperation)
    return addressOf(this.#alone)
  }
}

const number = new Float32Array(1)
const bits = new Uint32Array(number.buffer)

function floatBits(value: number): number {
  number[0] = value
  return bits[0] as number
}
