// Finds NVIDIA's libraries on the machine, and says what to install where one is missing.
import { existsSync } from 'node:fs'
import path from 'node:path'
import koffi from 'koffi'

export type LibraryName = 'driver' | 'nvrtc' | 'cublasLt'

/** Why this machine has no CUDA for us: a fact about the machine, with what would change it. */
export class CudaUnavailable extends Error {
  override readonly name = 'CudaUnavailable'
}

/** Newest first: what we call is the same in all of them. */
const names: Readonly<Record<LibraryName, Readonly<Record<'linux' | 'win32', readonly string[]>>>> = {
  driver: { linux: ['libcuda.so.1', 'libcuda.so'], win32: ['nvcuda.dll'] },
  nvrtc: {
    linux: ['libnvrtc.so.13', 'libnvrtc.so.12', 'libnvrtc.so'],
    win32: ['nvrtc64_130_0.dll', 'nvrtc64_120_0.dll'],
  },
  cublasLt: {
    linux: ['libcublasLt.so.13', 'libcublasLt.so.12', 'libcublasLt.so'],
    win32: ['cublasLt64_13.dll', 'cublasLt64_12.dll'],
  },
}

const remedies: Readonly<Record<LibraryName, string>> = {
  driver: 'install the NVIDIA driver, or give the container the GPU (docker run --gpus all)',
  nvrtc: 'install the CUDA toolkit 12 or 13 (package cuda-nvrtc), or name its folder in CUDA_LIBRARIES',
  cublasLt: 'install cuBLAS 12 or 13 (package libcublas), or name its folder in CUDA_LIBRARIES',
}

type Loaded = ReturnType<typeof koffi.load>

/** Looks in `folders`, then where the system looks. Throws `CudaUnavailable`. */
export function loadLibrary(name: LibraryName, folders: readonly string[]): Loaded {
  const platform = process.platform
  if (platform !== 'linux' && platform !== 'win32')
    throw new CudaUnavailable(`there is no CUDA for ${platform}; it runs on Linux and Windows`)
  const problems: string[] = []
  const given = folders.flatMap((folder) => names[name][platform].map((file) => path.join(folder, file)))
  for (const file of [...given.filter((file) => existsSync(file)), ...names[name][platform]]) {
    try {
      return koffi.load(file)
    } catch (error) {
      problems.push(`${file}: ${(error as Error).message}`)
    }
  }
  throw new CudaUnavailable(`${remedies[name]}. Tried ${problems.join('; ')}`)
}
