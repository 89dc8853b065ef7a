// Memory for weights in large pages: whoever reads it from end to end meets few of their borders.
import koffi from 'koffi'
import { addressOf, systemLibrary } from './machine-code.ts'

/** Large pages of x86 are 2 MiB: at both ends of a slab a part of one is lost. */
const slabBytes = 32 * 1024 ** 2
const pageBytes = 4096n
const alignment = 64
/** MADV_HUGEPAGE */
const largePages = 14

let advise: ReturnType<typeof bindAdvise> | null = null
const bindAdvise = () => koffi.load(systemLibrary).func('int madvise(void *address, size_t length, int advice)')

/** Gives out pieces that begin where a line of the caches does. What is not used of a slab is never touched. */
export class LargePages {
  #slab = new Uint8Array(0)
  #used = 0

  allocate(bytes: number): Uint8Array {
    const needed = Math.ceil(bytes / alignment) * alignment
    if (this.#used + needed > this.#slab.length) {
      this.#slab = new Uint8Array(Math.max(slabBytes, needed + alignment))
      inLargePages(this.#slab)
      this.#used = (alignment - Number(addressOf(this.#slab) % BigInt(alignment))) % alignment
    }
    const piece = this.#slab.subarray(this.#used, this.#used + bytes)
    this.#used += needed
    return piece
  }
}

/** Asks for them; where the system gives none, all goes on in small ones. */
export function inLargePages(array: Uint8Array): void {
  advise ??= bindAdvise()
  const [from, to] = [addressOf(array), addressOf(array) + BigInt(array.byteLength)]
  const [first, last] = [((from + pageBytes - 1n) / pageBytes) * pageBytes, (to / pageBytes) * pageBytes]
  if (last > first) advise(first, Number(last - first), largePages)
}
