// Whether anything of NVIDIA's is to be loaded at all: a look at the file system, which loads nothing itself.
import { existsSync } from 'node:fs'
import path from 'node:path'
import type { RuntimeOptions } from './open.ts'

/** Whether `openRuntime` would try cuda. */
export function isCudaTried({ choice, cudaLibraries }: Pick<RuntimeOptions, 'choice' | 'cudaLibraries'>): boolean {
  return choice === 'cuda' || (choice === 'auto' && (cudaLibraries.length > 0 || isDeviceThere()))
}

/** Whether the system shows an NVIDIA device or driver. */
export function isDeviceThere(): boolean {
  if (process.platform === 'linux') return existsSync('/proc/driver/nvidia/version') || existsSync('/dev/dxg')
  if (process.platform !== 'win32') return false
  return existsSync(path.join(process.env['SystemRoot'] ?? 'C:\\Windows', 'System32', 'nvcuda.dll'))
}
