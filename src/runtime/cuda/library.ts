// Finds NVIDIA's libraries on the machine, and says what to install where one is missing.
import { existsSync } from 'node:fs'
import path from 'node:path'
import koffi from 'koffi'

export type LibraryName = 'driver' | 'nvrtc' | 'cublasLt'

/** Why this machine has no CUDA for us: a fact about the machine, with what would change it. */
export class CudaUnavailable extends Error {
  override readonly name = 'CudaUnavailable'
}

/** Versions of CUDA whose libraries we call, newest first: what we call is the same in all of them. */
const versions = [13, 12] as const

/** A library's file of each version; the driver has one for all. */
const files: Readonly<Record<LibraryName, Readonly<Record<'linux' | 'win32', (version: number) => string>>>> = {
  driver: { linux: () => 'libcuda.so.1', win32: () => 'nvcuda.dll' },
  nvrtc: { linux: (version) => `libnvrtc.so.${version}`, win32: (version) => `nvrtc64_${version}0_0.dll` },
  cublasLt: { linux: (version) => `libcublasLt.so.${version}`, win32: (version) => `cublasLt64_${version}.dll` },
}

const remedies: Readonly<Record<LibraryName, (usable: string) => string>> = {
  driver: () => 'install the NVIDIA driver, or give the container the GPU (docker run --gpus all)',
  nvrtc: (usable) => `install the CUDA toolkit ${usable} (package cuda-nvrtc), or name its folder in CUDA_LIBRARIES`,
  cublasLt: (usable) => `install cuBLAS ${usable} (package libcublas), or name its folder in CUDA_LIBRARIES`,
}

type Loaded = ReturnType<typeof koffi.load>

/** Looks in `folders`, then where the system looks, for what is no newer than CUDA `versionMax`: that of the driver. Throws `CudaUnavailable`. */
export function loadLibrary(name: LibraryName, folders: readonly string[], versionMax = Infinity): Loaded {
  const platform = process.platform
  if (platform !== 'linux' && platform !== 'win32')
    throw new CudaUnavailable(`there is no CUDA for ${platform}; it runs on Linux and Windows`)
  const problems: string[] = []
  const usable = versions.filter((version) => version <= versionMax)
  const candidates = [...new Set(usable.map(files[name][platform]))]
  const given = folders.flatMap((folder) => candidates.map((file) => path.join(folder, file)))
  for (const file of [...given.filter((file) => existsSync(file)), ...candidates]) {
    try {
      return koffi.load(file)
    } catch (error) {
      problems.push(`${file}: ${(error as Error).message}`)
    }
  }
  const newer = versions.filter((version) => version > versionMax)
  const old =
    newer.length === 0 ? '' : `, or a driver for CUDA ${newer.toReversed().join(' or ')}: yours is for ${versionMax}`
  throw new CudaUnavailable(`${remedies[name](usable.toReversed().join(' or '))}${old}. Tried ${problems.join('; ')}`)
}
