// Decoding through WebGPU, in a cache that stays on the GPU.
import { testDecoding } from '../decode-contract.ts'
import { testWebgpu } from './runtimes.ts'

testDecoding({ skip: testWebgpu.skip, open: () => testWebgpu.open() })
