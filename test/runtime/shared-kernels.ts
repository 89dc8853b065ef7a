// The kernels of the stand-in for CUDA, compiled once for all tests: the C++ compiler takes some seconds for each set.
import { mkdirSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { buildStandIn } from './cuda/stand-in/build.ts'

/** A service or runtime over the folder `data` finds there what others compiled, and compiles for others what is new. */
export function shareKernels(data: string): void {
  const { kernels } = buildStandIn()
  mkdirSync(kernels, { recursive: true })
  mkdirSync(data, { recursive: true })
  symlinkSync(kernels, path.join(data, 'kernels'))
}
