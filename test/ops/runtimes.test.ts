// Every op's case on the CPU and on CUDA; the process of WebGPU's tests has its own.
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { testCuda } from '../runtime/cuda/runtimes.ts'
import { testOps } from './ops-contract.ts'

testOps({ name: 'onnx', skip: false, open: () => createOnnxRuntime({ threads: 1 }) })
testOps({ name: 'cuda', skip: testCuda.skip, open: () => testCuda.open({ checked: true }) })
