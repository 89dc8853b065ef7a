// C functions as functions of TypeScript: signatures as data, handles as bigints, out-parameters as typed arrays.
import koffi from 'koffi'
import { driverNumbers } from './driver-api.ts'
import type { loadLibrary } from './library.ts'
import { CudaUnavailable } from './library.ts'

type Plain = 'int' | 'uint32_t' | 'uint64_t' | 'size_t' | 'int64_t' | 'void *' | 'str' | 'uint8_t' | 'float'
/** `CUipcMemHandle` goes by value. */
type CType = Plain | 'CUipcMemHandle'
type Argument = number | bigint | string | NodeJS.ArrayBufferView | IpcHandle | null

/** What another process opens memory by. */
export interface IpcHandle {
  /** `ipcHandleBytes` of them. */
  readonly reserved: Uint8Array
}
export const ipcHandleBytes = driverNumbers.CU_IPC_HANDLE_SIZE
const ipcHandle = koffi.struct({ reserved: koffi.array('uint8_t', ipcHandleBytes) })

/** By name of the function the types of its arguments; all answer a status. */
export type Signatures = Readonly<Record<string, readonly CType[]>>
export type Bound<S extends Signatures> = { readonly [Name in keyof S]: (...values: readonly Argument[]) => number }

/** Throws `CudaUnavailable` where the library lacks a function: it is older than what we need. */
export function bind<const S extends Signatures>(
  library: ReturnType<typeof loadLibrary>,
  what: string,
  signatures: S,
): Bound<S> {
  const bound = Object.entries(signatures).map(([name, types]) => {
    try {
      return [
        name,
        library.func(
          name,
          'int',
          types.map((type) => (type === 'CUipcMemHandle' ? ipcHandle : type)),
        ),
      ]
    } catch (error) {
      throw new CudaUnavailable(`${what} has no ${name}: it is too old, install a newer one`, { cause: error })
    }
  })
  return Object.fromEntries(bound) as Bound<S>
}

export const pointerOut = (): BigUint64Array => new BigUint64Array(1)

/** Where the first byte of an array lies; it stays there as long as the array is reachable. */
export function addressOf(array: NodeJS.ArrayBufferView): bigint {
  return koffi.address(array)
}

/** The text that a `char *` points to. */
export function textAt(address: bigint): string {
  return address === 0n ? '' : koffi.decode.string(address)
}
