// Memory that holds code: written once, then executable and no longer writable.
import koffi from 'koffi'
import { Constants } from './kernels/constants.ts'
import { VectorAssembler } from './vectors.ts'

type Emit = (m: VectorAssembler, c: Constants) => void

/** How the functions of a code are called: with a program and a lane's memory (`kernels/lane.ts`). */
export type LaneFunction = (program: bigint, memory: bigint, done: (error: Error | null) => void) => void

/** Of Linux. */
export const systemLibrary = 'libc.so.6'

const protection = { read: 1, write: 2, execute: 4 }
const privateAnonymous = 0x22
const alignment = 64

let library: ReturnType<typeof bindLibrary> | null = null

function bindLibrary() {
  const c = koffi.load(systemLibrary)
  return {
    map: c.func('void *mmap(void *address, size_t length, int protection, int flags, int file, int64_t offset)'),
    protect: c.func('int mprotect(void *address, size_t length, int protection)'),
    unmap: c.func('int munmap(void *address, size_t length)'),
    copy: c.func('void *memcpy(void *to, const void *from, size_t length)'),
  }
}

const lane = koffi.proto('void preamble_lane(void *program, void *memory)')

/** Kernels by name, assembled and made executable. */
export class MachineCode {
  readonly constants = new Constants()
  readonly #addresses = new Map<string, number>()
  readonly #memory: bigint
  readonly #bytes: number

  /** Throws where the system gives no memory for code. */
  constructor(kernels: Readonly<Record<string, Emit>>) {
    const m = new VectorAssembler()
    const offsets = Object.entries(kernels).map(([name, emit]) => {
      while (m.size % alignment !== 0) m.emit(0xcc)
      const offset = m.size
      emit(m, this.constants)
      return [name, offset] as const
    })
    const bytes = m.bytes()
    library ??= bindLibrary()
    this.#bytes = bytes.length
    this.#memory = library.map(null, bytes.length, protection.read | protection.write, privateAnonymous, -1, 0)
    if (this.#memory === null || this.#memory === 0xffffffffffffffffn)
      throw new Error('the system gives no memory for code')
    library.copy(this.#memory, bytes, bytes.length)
    if (library.protect(this.#memory, bytes.length, protection.read | protection.execute) !== 0)
      throw new Error('the system does not let memory be executed')
    for (const [name, offset] of offsets) this.#addresses.set(name, Number(this.#memory) + offset)
  }

  addressOf(kernel: string): number {
    const address = this.#addresses.get(kernel)
    if (address === undefined) throw new Error(`there is no kernel ${kernel}`)
    return address
  }

  /** To be called from JavaScript, on a thread of its own. */
  lane(name: string): LaneFunction {
    const called = koffi.decode(BigInt(this.addressOf(name)), lane) as { async: LaneFunction }
    return (program, memory, done) => called.async(program, memory, done)
  }

  /** A second time nothing happens: by then others may have that memory. */
  dispose(): void {
    if (this.#addresses.size > 0) library?.unmap(this.#memory, this.#bytes)
    this.#addresses.clear()
  }
}

/** Of an array's first byte, which stays where it is as long as the array is reachable. */
export const addressOf = (array: NodeJS.ArrayBufferView): bigint => koffi.address(array)
