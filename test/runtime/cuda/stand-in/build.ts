// Builds the stand-in for NVIDIA's libraries with the machine's C++ compiler, once for each state of its sources.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const sources = path.resolve('test/runtime/cuda/stand-in')
const files = ['driver.cc', 'memory.cc', 'nvrtc.cc', 'cublaslt.cc'] as const
const headers = ['cuda_on_cpu.h', 'stand_in.h'] as const
/** All three are one library: it is found under each name. */
const names = ['libcuda.so.1', 'libnvrtc.so.12', 'libcublasLt.so.12'] as const
const flags: string[] = [
  '-std=c++17',
  '-O3',
  '-march=native',
  '-fPIC',
  '-shared',
  '-ffp-contract=off',
  '-fvisibility=hidden',
  `-DSTAND_IN_FOLDER="${sources}"`,
]

/** Reads and writes outside of any allocation, of shared memory or of a stack, and what C++ leaves undefined, end the process with a report. */
const sanitizers = '-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g'
const isSanitized = process.env['PREAMBLE_SANITIZE'] === '1'
if (isSanitized) flags.push(...sanitizers.split(' '), '-O1', `-DSTAND_IN_SANITIZERS="${sanitizers}"`)

const cache = path.join(tmpdir(), 'preamble-cuda-stand-in')

/** Why the stand-in cannot be built here; null where it can. */
export function whyNot(): string | null {
  if (process.platform !== 'linux') return `the stand-in for CUDA runs on Linux, not on ${process.platform}`
  const { status } = spawnSync('g++', ['--version'], { stdio: 'ignore' })
  return status === 0 ? null : 'there is no C++ compiler (g++) to build the stand-in for CUDA with'
}

/** The folder with the libraries, and one for kernels compiled by this stand-in. */
export function buildStandIn(): { readonly libraries: string; readonly kernels: string } {
  const hash = createHash('sha256').update(flags.join())
  for (const file of [...files, ...headers]) hash.update(readFileSync(path.join(sources, file)))
  const libraries = path.join(cache, hash.digest('hex').slice(0, 16))
  const kernels = path.join(libraries, 'kernels')
  if (existsSync(libraries)) return { libraries, kernels }
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(path.join(cache, 'building-'))
  const inputs = files.map((file) => path.join(sources, file))
  execFileSync('g++', [...flags, '-o', path.join(folder, 'stand-in.so'), ...inputs, '-ldl'])
  for (const name of names) symlinkSync('stand-in.so', path.join(folder, name))
  try {
    renameSync(folder, libraries)
  } catch (error) {
    // Another process was faster.
    rmSync(folder, { recursive: true })
    if (!existsSync(libraries)) throw error
  }
  return { libraries, kernels }
}
