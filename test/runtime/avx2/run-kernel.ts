// One kernel with arguments by name, run without a graph: in usual memory, or beside pages that nobody may touch.
import { headerSlots, emitLane, operationBytes, operationSlots } from '../../../src/runtime/avx2/kernels/lane.ts'
import { addressOf, MachineCode } from '../../../src/runtime/avx2/machine-code.ts'
import { kernelSlots, type KernelName } from '../../../src/runtime/avx2/steps.ts'
import { guarded, type Side } from './guarded-memory.ts'

/** A whole number, a float32, numbers that lie somewhere, or null: nowhere. */
type Given = number | { readonly float: number } | Float32Array | Int32Array | null
export type GivenTo<Name extends KernelName> = Readonly<Record<(typeof kernelSlots)[Name][number], Given>>
type Emit = ConstructorParameters<typeof MachineCode>[0][string]

const sides: readonly (Side | null)[] = [null, 'before', 'behind']

/** A kernel's code, to be run as often as wanted. */
export class KernelCode<Name extends KernelName> {
  readonly #name: Name
  readonly #code: MachineCode

  readonly #scratch: number

  /** `scratch`: bytes of each thread's own memory. */
  constructor(name: Name, emit: Emit, scratch = 64) {
    this.#name = name
    this.#scratch = scratch
    this.#code = new MachineCode({ lane: emitLane, [name]: emit })
  }

  dispose(): void {
    this.#code.dispose()
  }

  /** Runs it in memory of each kind, on what `given` makes anew; `check` gets that, or its copies beside guards, with what the kernel wrote. */
  async everywhere(
    given: () => GivenTo<Name>,
    chunks: number,
    check: (given: GivenTo<Name>, side: Side | null) => void,
  ): Promise<void> {
    for (const side of sides) {
      // Of one array there is one copy, for kernels that work in place.
      const copies = new Map<Given, Float32Array | Int32Array>()
      const beside = Object.fromEntries(
        Object.entries<Given>(given()).map(([slot, value]) => {
          if (side === null || !(value instanceof Float32Array || value instanceof Int32Array)) return [slot, value]
          const copy = copies.get(value) ?? guarded(value, side)
          copies.set(value, copy)
          return [slot, copy]
        }),
      ) as GivenTo<Name>
      await this.run(beside, chunks, side === null ? 2 : 1)
      check(beside, side)
    }
  }

  async run(given: GivenTo<Name>, chunks: number, threads: number): Promise<void> {
    const slots: readonly (keyof GivenTo<Name>)[] = kernelSlots[this.#name]
    const values = BigUint64Array.from(slots, (slot) => {
      const value: Given = given[slot]
      if (value === null) return 0n
      if (typeof value === 'number') return BigInt(value)
      if ('float' in value) return BigInt(new Uint32Array(Float32Array.of(value.float).buffer)[0] as number)
      return addressOf(value)
    })
    const constants = this.#code.constants.numbers
    const program = new BigUint64Array((2 * operationBytes) / 8)
    program[headerSlots.indexOf('operations')] = 1n
    program[headerSlots.indexOf('constants')] = addressOf(constants)
    const operation = operationBytes / 8
    program[operation + operationSlots.indexOf('kernel')] = BigInt(this.#code.addressOf(this.#name))
    program[operation + operationSlots.indexOf('arguments')] = addressOf(values)
    program[operation + operationSlots.indexOf('chunks')] = BigInt(chunks)
    const lane = this.#code.lane('lane')
    const memory = Array.from({ length: threads }, () => new Uint8Array(this.#scratch))
    await Promise.all(
      memory.map(
        (own) =>
          new Promise<void>((resolve, reject) =>
            lane(addressOf(program), addressOf(own), (error) => (error === null ? resolve() : reject(error))),
          ),
      ),
    )
  }
}
