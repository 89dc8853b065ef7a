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
  readonly #program: Slots
  /** A program of one operation. */
  readonly #alone = new Slots(2 * slotsOfOperation)
  readonly #arguments: Slots
  readonly #fed: readonly { readonly name: string; readonly slot: number; readonly offset: number }[]
  /** Slots that hold places in the arena, and how far behind its beginning. */
  readonly #placed: { readonly slots: readonly number[]; readonly offsets: readonly number[] }
  #arena = 0

  constructor({ lowering, inputs }: Lowered, kernelAt: (name: string) => number, constants: number) {
    const { steps, outputs } = lowering
    const storages: Storage[] = []
    const seen = new Set<Storage>()
    const see = (storage: Storage): void => {
      const { kind } = storage
      if ((kind !== 'arena' && kind !== 'input' && kind !== 'output') || seen.has(storage)) return
      seen.add(storage)
      storages.push(storage)
    }
    for (const step of steps) step.storages.forEach(see)
    inputs.forEach(see)
    outputs.forEach(see)
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

    this.#arguments = new Slots(steps.reduce((sum, step) => sum + step.arguments.length, 0))
    this.#program = new Slots((steps.length + 1) * slotsOfOperation)
    this.#program.set(headerSlots.indexOf('operations'), steps.length)
    this.#program.set(headerSlots.indexOf('constants'), constants)
    const fed: { name: string; slot: number; offset: number }[] = []
    const placed = { slots: [] as number[], offsets: [] as number[] }
    const argumentsAt = this.#arguments.address
    let slot = 0
    for (const [i, step] of steps.entries()) {
      const operation = (i + 1) * slotsOfOperation
      this.#program.set(operation + operationSlots.indexOf('kernel'), kernelAt(step.kernel))
      this.#program.set(operation + operationSlots.indexOf('arguments'), argumentsAt + 8 * slot)
      this.#program.set(operation + operationSlots.indexOf('chunks'), step.chunks)
      for (const argument of step.arguments) {
        if (typeof argument === 'number') this.#arguments.set(slot, argument)
        else if (argument !== null && 'float' in argument) this.#arguments.set(slot, floatBits(argument.float))
        else if (argument !== null) {
          const { storage, offset } = argument.place
          const inside = 4 * offset
          if (storage.kind === 'fed') fed.push({ name: storage.name as string, slot, offset: inside })
          else if (storage.kind === 'resident') this.#arguments.set(slot, storage.address + inside)
          else {
            placed.slots.push(slot)
            placed.offsets.push(offsetOf(storage) + inside)
          }
        }
        slot += 1
      }
    }
    this.#fed = fed
    this.#placed = placed
  }

  /** The program's address, its work not begun yet. `arena` is aligned; `fedAt` tells where inputs lie. */
  prepare(arena: number, fedAt: (name: string) => number): bigint {
    if (arena !== this.#arena) {
      const { slots, offsets } = this.#placed
      slots.forEach((slot, i) => this.#arguments.set(slot, arena + (offsets[i] as number)))
      this.#arena = arena
    }
    for (const { name, slot, offset } of this.#fed) this.#arguments.set(slot, fedAt(name) + offset)
    const [taken, done] = [operationSlots.indexOf('taken'), operationSlots.indexOf('done')]
    const { zeros } = this.#program
    for (let at = slotsOfOperation; at < zeros.length; at += slotsOfOperation) {
      zeros[at + taken] = 0
      zeros[at + done] = 0
    }
    return addressOf(zeros)
  }

  /** The address of one operation of the prepared program, as a program until the next is asked for. */
  alone(operation: number): bigint {
    const at = (operation + 1) * slotsOfOperation
    this.#alone.words.set(this.#program.words.subarray(0, 2 * slotsOfOperation))
    this.#alone.set(headerSlots.indexOf('operations'), 1)
    const words = this.#program.words.subarray(2 * at, 2 * (at + slotsOfOperation))
    this.#alone.words.set(words, 2 * slotsOfOperation)
    return addressOf(this.#alone.zeros)
  }
}

/** Whole numbers below 2 ** 53, eight bytes each: written in halves, as thousands of big integers would take longer than the step. */
class Slots {
  readonly words: Uint32Array
  /** The same slots, to set some to 0. */
  readonly zeros: Float64Array

  constructor(count: number) {
    this.zeros = new Float64Array(count)
    this.words = new Uint32Array(this.zeros.buffer)
  }

  get address(): number {
    return Number(addressOf(this.zeros))
  }

  set(slot: number, value: number): void {
    this.words[2 * slot] = value
    this.words[2 * slot + 1] = value / 2 ** 32
  }
}

const number = new Float32Array(1)
const bits = new Uint32Array(number.buffer)

function floatBits(value: number): number {
  number[0] = value
  return bits[0] as number
}
