// Compiled kernels, kept in a folder by content, architecture and compiler, so that a start compiles nothing twice.
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Nvrtc } from './nvrtc.ts'
import type { Heads } from './steps.ts'

/** From the compiled file, dist/src/runtime/cuda/compiled.js, to the sources, which are shipped as they are. */
const kernelFolder = fileURLToPath(new URL('../../../../src/runtime/cuda/kernels', import.meta.url))

const general = [
  'common.cuh',
  'gather.cu',
  'layer_norm.cu',
  'gelu.cu',
  'elementwise.cu',
  'copy.cu',
  'sum.cu',
  'cross_entropy.cu',
  'cache.cu',
  'choose.cu',
  'accumulate.cu',
  'gradient_norm.cu',
  'adamw.cu',
]
/** Compiled for one width of a head, in float32 or for one kind of 16 bits. */
const perHead = [
  'common.cuh',
  'attention_common.cuh',
  'attention_tiles.cuh',
  'attention.cu',
  'attention_gradient.cu',
  'attention_decode.cu',
]
const perHeadInHalves = [
  'common.cuh',
  'mma.cuh',
  'attention_common.cuh',
  'attention_half_tiles.cuh',
  'attention_half.cu',
  'attention_half_gradient.cu',
  'attention_decode.cu',
]
/** HALF of the kernels. */
const halves = { bfloat16: 1, float16: 2 } as const

export interface KernelSource {
  readonly name: string
  readonly text: string
  readonly defines: Readonly<Record<string, number>>
}

/** All kernels that do not depend on heads; or those that are compiled for these. */
export function kernelSource(heads: Heads | null): KernelSource {
  const files = heads === null ? general : heads.form === 'float32' ? perHead : perHeadInHalves
  // Errors then name the file they are in.
  const parts = files.map((file) => `#line 1 "${file}"\n${readFileSync(path.join(kernelFolder, file), 'utf8')}`)
  const text = parts.join('\n')
  if (heads === null) return { name: 'kernels.cu', text, defines: {} }
  const { headDim, form } = heads
  const half = form === 'float32' ? {} : { HALF: halves[form] }
  return { name: `attention-${headDim}-${form}.cu`, text, defines: { HEAD_DIM: headDim, ...half } }
}

/** Code for `architecture`, out of `folder` where it was compiled before. */
export function compiledKernels(nvrtc: Nvrtc, source: KernelSource, architecture: number, folder: string): Uint8Array {
  const { name, text, defines } = source
  const content = JSON.stringify([text, defines, architecture, nvrtc.version])
  const file = path.join(folder, `${createHash('sha256').update(content).digest('hex')}.bin`)
  const kept = readKept(file)
  if (kept !== null) return kept
  const code = nvrtc.compile(name, text, architecture, defines)
  mkdirSync(folder, { recursive: true })
  // Whole or not at all: another process may be looking.
  const temporary = `${file}.${randomUUID()}`
  writeFileSync(temporary, Buffer.concat([digestOf(code), code]))
  renameSync(temporary, file)
  return code
}

const digestBytes = 32
const digestOf = (code: Uint8Array): Buffer => createHash('sha256').update(code).digest()

/** null where there is none, or one that was damaged. */
function readKept(file: string): Uint8Array | null {
  try {
    const bytes = readFileSync(file)
    const code = bytes.subarray(digestBytes)
    return digestOf(code).equals(bytes.subarray(0, digestBytes)) ? code : null
  } catch {
    return null
  }
}
