// A generation through the engine on the GPU.
import { testTexts } from '../engine-contract.ts'
import { testWebgpu } from './runtimes.ts'

testTexts({ skip: testWebgpu.skip, open: () => testWebgpu.open(), maxNewTokens: 8, bartRows: [0] })
