// Decoding on the device, whose runtime looks after each step at what kernels wrote beside their buffers.
import { testDecoding } from '../decode-contract.ts'
import { testCuda } from './runtimes.ts'

testDecoding({ skip: testCuda.skip, open: () => testCuda.open({ checked: true }) })
