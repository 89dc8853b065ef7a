// Numbers right before, or right behind, a page that nobody may touch: who reads or writes beyond them is ended by the system.
import koffi from 'koffi'

const pageBytes = 4096
const [readAndWrite, nothing, privateAnonymous] = [3, 0, 0x22]

/** Where the numbers lie: right before, or right behind, the page. */
export type Side = 'before' | 'behind'

/** Never given back: tests are over soon. */
export function guarded<Numbers extends Float32Array | Int32Array>(numbers: Numbers, side: Side): Numbers {
  const libc = koffi.load('libc.so.6')
  const map = libc.func('void *mmap(void *address, size_t length, int protection, int flags, int file, int64_t offset)')
  const protect = libc.func('int mprotect(void *address, size_t length, int protection)')
  const inside = pageBytes * Math.max(1, Math.ceil(numbers.byteLength / pageBytes))
  const start = map(null, inside + 2 * pageBytes, readAndWrite, privateAnonymous, -1, 0) as bigint
  for (const page of [start, start + BigInt(pageBytes + inside)]) {
    if (protect(page, pageBytes, nothing) !== 0) throw new Error('the system keeps no page from being touched')
  }
  const skipped = pageBytes + (side === 'behind' ? inside - numbers.byteLength : 0)
  const memory = koffi.view(start + BigInt(skipped), numbers.byteLength)
  const array = numbers instanceof Int32Array ? new Int32Array(memory) : new Float32Array(memory)
  array.set(numbers)
  return array as Numbers
}
