// Every kernel compiled by NVIDIA's own compiler, where it can be loaded: no device is needed for that. A file for each architecture, as files run side by side.
import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { kernelSource } from '../../../src/runtime/cuda/compiled.ts'
import { CudaUnavailable } from '../../../src/runtime/cuda/library.ts'
import { Nvrtc } from '../../../src/runtime/cuda/nvrtc.ts'
import { forms, type Heads } from '../../../src/runtime/cuda/steps.ts'

function openCompiler(): Nvrtc | string {
  try {
    return Nvrtc.open(process.env['CUDA_LIBRARIES']?.split(path.delimiter) ?? [])
  } catch (error) {
    if (error instanceof CudaUnavailable) return error.message
    throw error
  }
}

const nvrtc = openCompiler()

/** Heads of GPT-2 and BART, the widest ones, and some that are no multiple of what the tensor cores take. */
const headDims = [64, 80, 128, 20]
const kinds: readonly (Heads | null)[] = [
  null,
  ...forms.flatMap((form) => headDims.map((headDim) => ({ headDim, form }))),
]

export function testCompiling(architecture: number): void {
  for (const heads of kinds) {
    const what =
      heads === null ? 'all kernels but attention' : `attention in ${heads.form} with heads of ${heads.headDim}`
    test(`NVRTC compiles ${what} for sm_${architecture}`, { skip: typeof nvrtc === 'string' && nvrtc }, (t) => {
      assert.ok(typeof nvrtc !== 'string')
      if (!nvrtc.architectures.includes(architecture))
        return t.skip(`NVRTC ${nvrtc.version} does not know sm_${architecture}`)
      const { name, text, defines } = kernelSource(heads)
      const code = nvrtc.compile(name, text, architecture, defines)
      // An ELF file, as the driver loads it.
      assert.deepEqual([...code.subarray(0, 4)], [0x7f, 0x45, 0x4c, 0x46])
    })
  }
}
