// Times products of square matrices by themselves: the rate that nothing on the device goes beyond.
import { Random } from '../../random/random.ts'
import type { Device } from './device.ts'
import type { Form } from './steps.ts'

/** What is drawn, and then repeated: how much a device draws of its power hangs on the bits. */
const drawnMax = 2 ** 20
/** Products before, so that all that are timed wait on the stream. */
const ahead = 3

/** Milliseconds of each of `count` products of two matrices [size, size] in `form`, summed up and answered in float32. */
export function timeProducts({ driver, blas }: Device, size: number, form: Form, count: number): number[] {
  const bytes = size * size * (form === 'float32' ? 4 : 2)
  const drawn = drawnBytes(form, Math.min(drawnMax, bytes))
  const factor = (): bigint => {
    const address = driver.allocate(bytes, 'a factor of a product')
    for (let at = 0; at < bytes; at += drawn.length)
      driver.upload(address + BigInt(at), drawn.subarray(0, Math.min(drawn.length, bytes - at)))
    return address
  }
  const [left, right, out] = [factor(), factor(), driver.allocate(4 * size * size, 'a product')]
  const part = (address: bigint) => ({ address, stride: size, type: form, transposed: false })
  const product = { rows: size, columns: size, inner: size, left: part(left), right: part(right) }
  const whole = { ...product, out: { address: out, stride: size }, added: null, bias: null, gelu: false, scale: 1 }
  const multiply = (): void => void blas.multiply(whole, driver.stream)
  const times = driver.time(
    Array.from({ length: count }, () => multiply),
    () => {
      for (let i = 0; i < ahead; i++) multiply()
    },
  )
  for (const address of [left, right, out]) driver.free(address)
  return times
}

/** Numbers around zero, of the size of weights. */
function drawnBytes(form: Form, bytes: number): Uint8Array {
  const random = new Random(1)
  const numbers = Float32Array.from({ length: bytes / (form === 'float32' ? 4 : 2) }, () => 0.1 * random.normal())
  if (form === 'float32') return new Uint8Array(numbers.buffer)
  // The upper half of a float32 is a bfloat16; as a float16 it is another number of the same order, and no less random.
  const halves = Uint16Array.from(new Uint32Array(numbers.buffer), (bits) => bits >>> 16)
  return new Uint8Array(halves.buffer)
}
