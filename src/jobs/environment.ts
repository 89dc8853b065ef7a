// What a training's numbers depend on besides its options and data: the same arithmetic in another order rounds otherwise.
import { cpus } from 'node:os'
import { version } from '../config/version.ts'

export interface Environment {
  readonly codeVersion: string
  /** Inside one operator. */
  readonly threads: number
  readonly platform: string
  /** Kernels are chosen by what the processor can do. */
  readonly cpu: string
}

export function describeEnvironment(threads: number): Environment {
  const cpu = cpus()[0]?.model.trim() ?? 'unknown'
  return { codeVersion: version, threads, platform: `${process.platform} ${process.arch}`, cpu }
}
