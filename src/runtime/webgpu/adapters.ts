// The GPUs that a machine shows, before any of them is used: by Vulkan's own listing, or by what the system is.
import { existsSync, readdirSync } from 'node:fs'
import { cpus } from 'node:os'
import path from 'node:path'
import koffi from 'koffi'

/** `software`: a driver that computes on the CPU. */
export type AdapterKind = 'discrete' | 'integrated' | 'virtual' | 'other' | 'software'

export interface Adapter {
  readonly name: string
  readonly kind: AdapterKind
  /** Of its own, or of the machine's where it has none; null where nobody says. */
  readonly memoryBytes: number | null
  /** Of what a kernel can be given in one piece, at most; null where nobody says. */
  readonly pieceBytesMax: number | null
}

/** As logs and GET /readyz name it. */
export function describeAdapter({ name, kind, memoryBytes }: Adapter): string {
  const memory = memoryBytes === null ? '' : `, ${(memoryBytes / 2 ** 30).toFixed(1)} GiB`
  return `${name}, ${kind}${memory}`
}

/** In the order in which the provider prefers them. */
const kinds: readonly AdapterKind[] = ['discrete', 'integrated', 'virtual', 'other', 'software']

export interface FoundAdapters {
  /** The first is the one that the provider takes. */
  readonly adapters: readonly Adapter[]
  /** Why there is none, with what would change it. */
  readonly problem: string | null
}

/** Whether the system shows a GPU of any kind. Nothing is loaded for the answer. */
export function isGpuThere(): boolean {
  if (process.platform === 'darwin') return true
  if (process.platform === 'win32') return existsSync(vulkanOnWindows())
  const folder = '/dev/dri'
  const isDrawing = existsSync(folder) && readdirSync(folder).some((name) => name.startsWith('renderD'))
  return isDrawing || existsSync('/proc/driver/nvidia/version') || existsSync('/dev/dxg')
}

export function findAdapters(): FoundAdapters {
  if (process.platform === 'darwin') {
    const adapter = { name: `${cpus()[0]?.model ?? 'GPU'} (Metal)`, kind: 'integrated' as const }
    return { adapters: [{ ...adapter, memoryBytes: null, pieceBytesMax: null }], problem: null }
  }
  let vulkan: Loaded
  try {
    vulkan = koffi.load(process.platform === 'win32' ? vulkanOnWindows() : 'libvulkan.so.1')
  } catch (error) {
    const remedy =
      "install the Vulkan loader (Debian: libvulkan1) and the driver of the GPU (mesa-vulkan-drivers, or NVIDIA's)"
    return { adapters: [], problem: `${remedy}. Tried ${(error as Error).message}` }
  }
  const adapters = listed(vulkan).toSorted((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind))
  const problem =
    "Vulkan shows no GPU: install its driver (Debian: mesa-vulkan-drivers, or NVIDIA's), or give the container /dev/dri"
  return { adapters, problem: adapters.length === 0 ? problem : null }
}

type Loaded = ReturnType<typeof koffi.load>

function vulkanOnWindows(): string {
  return path.join(process.env['SystemRoot'] ?? 'C:\\Windows', 'System32', 'vulkan-1.dll')
}

/** Sizes and places in structures of Vulkan 1.0, which every loader knows. */
const layout = {
  instanceInfo: 64,
  properties: { bytes: 824, type: 16, name: 20, nameBytes: 256, storageBufferRange: 296 + 28 },
  memory: { bytes: 520, heapCount: 260, heaps: 264, heapBytes: 16 },
} as const
const success = 0
const incomplete = 5
const instanceInfoType = 1
const deviceLocal = 1
const devicesMax = 16
const kindOfType: readonly AdapterKind[] = ['other', 'integrated', 'discrete', 'virtual', 'software']

function listed(vulkan: Loaded): Adapter[] {
  const create = vulkan.func('vkCreateInstance', 'int', ['void *', 'void *', 'void *'])
  const destroy = vulkan.func('vkDestroyInstance', 'void', ['uint64', 'void *'])
  const enumerate = vulkan.func('vkEnumeratePhysicalDevices', 'int', ['uint64', 'void *', 'void *'])
  const propertiesOf = vulkan.func('vkGetPhysicalDeviceProperties', 'void', ['uint64', 'void *'])
  const memoryOf = vulkan.func('vkGetPhysicalDeviceMemoryProperties', 'void', ['uint64', 'void *'])

  const info = Buffer.alloc(layout.instanceInfo)
  info.writeUInt32LE(instanceInfoType)
  const handle = new BigUint64Array(1)
  // Without a driver there is no instance.
  if (create(info, null, handle) !== success) return []
  const instance = handle[0] as bigint
  try {
    const count = Uint32Array.of(devicesMax)
    const devices = new BigUint64Array(devicesMax)
    if (![success, incomplete].includes(enumerate(instance, count, devices) as number)) return []
    return Array.from(devices.subarray(0, count[0]), (device) => {
      const [properties, memory] = [Buffer.alloc(layout.properties.bytes), Buffer.alloc(layout.memory.bytes)]
      propertiesOf(device, properties)
      memoryOf(device, memory)
      return adapterOf(properties, memory)
    })
  } finally {
    destroy(instance, null)
  }
}

/** `properties`: VkPhysicalDeviceProperties, `memory`: VkPhysicalDeviceMemoryProperties. */
function adapterOf(properties: Buffer, memory: Buffer): Adapter {
  const { type, name, nameBytes, storageBufferRange } = layout.properties
  const text = properties.toString('utf8', name, name + nameBytes)
  const { heapCount, heaps, heapBytes } = layout.memory
  let memoryBytes = 0
  for (let heap = 0; heap < memory.readUInt32LE(heapCount); heap++) {
    const at = heaps + heap * heapBytes
    const isOwn = (memory.readUInt32LE(at + 8) & deviceLocal) !== 0
    if (isOwn) memoryBytes = Math.max(memoryBytes, Number(memory.readBigUInt64LE(at)))
  }
  return {
    name: text.slice(0, text.indexOf('\0')),
    kind: kindOfType[properties.readUInt32LE(type)] ?? 'other',
    memoryBytes: memoryBytes === 0 ? null : memoryBytes,
    pieceBytesMax: properties.readUInt32LE(storageBufferRange),
  }
}
