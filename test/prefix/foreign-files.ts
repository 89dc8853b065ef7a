// Files of other libraries for tests: safetensors of any dtype, and PEFT's pair with something changed.
import { writeSafetensors } from '../../src/tensor/safetensors.ts'
import type { PeftFiles } from '../../src/prefix/peft.ts'
import { adapterFiles } from '../golden/peft.ts'

export const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** The golden float32 adapter with fields of its config changed; undefined takes a field away. */
export function withConfig(changes: Readonly<Record<string, unknown>>): PeftFiles {
  const { config, model } = adapterFiles('float32')
  const fields = JSON.parse(new TextDecoder().decode(config)) as Record<string, unknown>
  return { config: text(JSON.stringify({ ...fields, ...changes })), model }
}

/** The golden config beside another tensor, all of one number. */
export function withTensor(shape: readonly number[], { name = 'prompt_embeddings', fill = 0.5 } = {}): PeftFiles {
  const data = new Float32Array(shape.reduce((product, extent) => product * extent, 1)).fill(fill)
  return {
    ...adapterFiles('float32'),
    model: writeSafetensors([{ name, dtype: 'F32', shape, data }], { format: 'pt' }),
  }
}

/** One tensor of any dtype. */
export function rawSafetensors(name: string, dtype: string, shape: readonly number[], bytes: Uint8Array): Uint8Array {
  const header = text(JSON.stringify({ [name]: { dtype, shape, data_offsets: [0, bytes.length] } }))
  const file = new Uint8Array(8 + header.length + bytes.length)
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true)
  file.set(header, 8)
  file.set(bytes, 8 + header.length)
  return file
}
