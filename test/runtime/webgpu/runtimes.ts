// Opens the webgpu runtime for tests: on SwiftShader, a Vulkan driver in software, or on the real device where PREAMBLE_TEST_WEBGPU asks for it.
import { existsSync } from 'node:fs'
import { findAdapters, type Adapter } from '../../../src/runtime/webgpu/adapters.ts'
import { openWebgpuRuntime, type WebgpuRuntime } from '../../../src/runtime/webgpu/webgpu.ts'

export const isOnDevice = process.env['PREAMBLE_TEST_WEBGPU'] === 'device'

/** Where packages of Chromium put the driver. */
const drivers = [
  '/usr/lib/chromium/vk_swiftshader_icd.json',
  '/usr/lib64/chromium-browser/vk_swiftshader_icd.json',
  '/opt/google/chrome/vk_swiftshader_icd.json',
]

export const swiftShader = drivers.find((file) => existsSync(file)) ?? null

/** Only drivers in software count, so that no test runs on a GPU unasked. */
if (!isOnDevice && swiftShader !== null) process.env['VK_DRIVER_FILES'] = swiftShader

interface TestWebgpu {
  /** For `test`: false, or why it is skipped. */
  readonly skip: false | string
  readonly open: (onLost?: (error: Error) => void) => Promise<WebgpuRuntime>
}

export const testWebgpu: TestWebgpu = {
  skip: whyNot() ?? false,
  open: (onLost) => openWebgpuRuntime({ adapter: firstAdapter() as Adapter, ...(onLost && { onLost }) }),
}

function whyNot(): string | null {
  if (isOnDevice) return findAdapters().problem
  if (swiftShader === null) return 'there is no SwiftShader (Debian: the package chromium) to stand in for a GPU'
  return firstAdapter() === undefined ? 'there is no Vulkan loader (Debian: libvulkan1) to load SwiftShader with' : null
}

function firstAdapter(): Adapter | undefined {
  return findAdapters().adapters[0]
}
