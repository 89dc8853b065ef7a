// NVIDIA's run-time compiler: CUDA source in, code for one architecture out.
import { addressOf, bind, pointerOut, type Bound } from './bindings.ts'
import { loadLibrary } from './library.ts'

/** Of nvrtc.h, with the types of their arguments. */
export const nvrtcSignatures = {
  nvrtcVersion: ['void *', 'void *'],
  nvrtcGetNumSupportedArchs: ['void *'],
  nvrtcGetSupportedArchs: ['void *'],
  nvrtcCreateProgram: ['void *', 'str', 'str', 'int', 'void *', 'void *'],
  nvrtcDestroyProgram: ['void *'],
  nvrtcCompileProgram: ['uint64_t', 'int', 'void *'],
  nvrtcGetProgramLogSize: ['uint64_t', 'void *'],
  nvrtcGetProgramLog: ['uint64_t', 'void *'],
  nvrtcGetCUBINSize: ['uint64_t', 'void *'],
  nvrtcGetCUBIN: ['uint64_t', 'void *'],
  nvrtcGetPTXSize: ['uint64_t', 'void *'],
  nvrtcGetPTX: ['uint64_t', 'void *'],
} as const

export class Nvrtc {
  readonly #api: Bound<typeof nvrtcSignatures>

  private constructor(api: Bound<typeof nvrtcSignatures>) {
    this.#api = api
  }

  /** The driver takes code of CUDA `versionMax` at most. Throws `CudaUnavailable`. */
  static open(folders: readonly string[], versionMax?: number): Nvrtc {
    return new Nvrtc(bind(loadLibrary('nvrtc', folders, versionMax), 'NVRTC', nvrtcSignatures))
  }

  /** `12.9` */
  get version(): string {
    const [major, minor] = [new Int32Array(1), new Int32Array(1)]
    this.#check('nvrtcVersion', this.#api.nvrtcVersion(major, minor))
    return `${major[0]}.${minor[0]}`
  }

  /** Ascending: 75, 80, … */
  get architectures(): readonly number[] {
    const count = new Int32Array(1)
    this.#check('nvrtcGetNumSupportedArchs', this.#api.nvrtcGetNumSupportedArchs(count))
    const architectures = new Int32Array(count[0] as number)
    this.#check('nvrtcGetSupportedArchs', this.#api.nvrtcGetSupportedArchs(architectures))
    return [...architectures].sort((a, b) => a - b)
  }

  /**
   * Code for `architecture`. A device newer than the compiler gets the newest PTX there is, which its driver translates.
   * An error in the source is a bug of ours: it throws with the compiler's log.
   */
  compile(name: string, source: string, architecture: number, defines: Readonly<Record<string, number>>): Uint8Array {
    const known = this.architectures
    const isKnown = known.includes(architecture)
    const target = isKnown ? `sm_${architecture}` : `compute_${known.findLast((each) => each < architecture)}`
    const options = [
      `--gpu-architecture=${target}`,
      '--std=c++17',
      ...Object.entries(defines).map(([key, value]) => `-D${key}=${value}`),
    ]
    const handle = pointerOut()
    this.#check('nvrtcCreateProgram', this.#api.nvrtcCreateProgram(handle, source, name, 0, null, null))
    const program = handle[0] as bigint
    try {
      const texts = options.map((option) => Buffer.from(`${option}\0`))
      const status = this.#api.nvrtcCompileProgram(program, texts.length, BigUint64Array.from(texts, addressOf))
      if (status !== 0) throw new Error(`NVRTC cannot compile ${name} for ${target}:\n${this.#log(program)}`)
      return isKnown ? this.#read('CUBIN', program) : this.#read('PTX', program)
    } finally {
      this.#api.nvrtcDestroyProgram(handle)
    }
  }

  #log(program: bigint): string {
    const size = pointerOut()
    this.#check('nvrtcGetProgramLogSize', this.#api.nvrtcGetProgramLogSize(program, size))
    const log = Buffer.alloc(Number(size[0]))
    this.#check('nvrtcGetProgramLog', this.#api.nvrtcGetProgramLog(program, log))
    return log.toString('utf8', 0, Math.max(0, log.length - 1))
  }

  #read(kind: 'CUBIN' | 'PTX', program: bigint): Uint8Array {
    const size = pointerOut()
    this.#check(`nvrtcGet${kind}Size`, this.#api[`nvrtcGet${kind}Size`](program, size))
    const code = new Uint8Array(Number(size[0]))
    this.#check(`nvrtcGet${kind}`, this.#api[`nvrtcGet${kind}`](program, code))
    return code
  }

  #check(call: string, status: number): void {
    if (status !== 0) throw new Error(`${call} answered ${status}`)
  }
}
