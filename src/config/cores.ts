// How many physical cores this process may use: two threads of one core do not multiply matrices faster than one.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

export function physicalCores(): number {
  return countCores(readCpuInfo(), availableParallelism())
}

/** `cpuInfo` is the text of /proc/cpuinfo, null where there is none; `available` counts hardware threads. */
export function countCores(cpuInfo: string | null, available: number): number {
  const cores = new Set<string>()
  for (const processor of (cpuInfo ?? '').split('\n\n')) {
    const socket = /^physical id\s*: (\d+)$/m.exec(processor)?.[1]
    const core = /^core id\s*: (\d+)$/m.exec(processor)?.[1]
    if (socket !== undefined && core !== undefined) cores.add(`${socket}/${core}`)
  }
  return Math.max(1, cores.size === 0 ? available : Math.min(cores.size, available))
}

function readCpuInfo(): string | null {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8')
  } catch {
    return null // Not Linux.
  }
}
