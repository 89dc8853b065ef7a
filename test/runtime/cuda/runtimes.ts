// Opens the cuda runtime for tests: on the stand-in, or on the real device where PREAMBLE_TEST_CUDA asks for it.
import { tmpdir } from 'node:os'
import path from 'node:path'
import { openCudaRuntime, type CudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { buildStandIn, whyNot } from './stand-in/build.ts'

export const isOnDevice = process.env['PREAMBLE_TEST_CUDA'] === 'device'

interface TestCuda {
  /** For `test`: false, or why it is skipped. */
  readonly skip: false | string
  readonly open: (options?: { readonly checked?: boolean }) => CudaRuntime
}

export const testCuda: TestCuda = isOnDevice ? onDevice() : onStandIn()

function onStandIn(): TestCuda {
  const reason = whyNot()
  const open: TestCuda['open'] = (options = {}) => {
    const { libraries, kernels } = buildStandIn()
    return openCudaRuntime({ folder: kernels, libraries: [libraries], ...options })
  }
  return { skip: reason ?? false, open }
}

function onDevice(): TestCuda {
  const given = process.env['CUDA_LIBRARIES']?.split(path.delimiter) ?? []
  const folder = path.join(tmpdir(), 'preamble-cuda-kernels')
  const open: TestCuda['open'] = (options = {}) => openCudaRuntime({ folder, libraries: given, ...options })
  // Whoever asks for the device is told that there is none: checks that were all skipped look like checks that passed.
  open()
  return { skip: false, open }
}
