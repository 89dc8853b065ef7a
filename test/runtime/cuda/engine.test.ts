// A generation through the engine on the device.
import { testTexts } from '../engine-contract.ts'
import { testCuda } from './runtimes.ts'

testTexts({ skip: testCuda.skip, open: () => testCuda.open(), maxNewTokens: 16, tellsAll: false, bartRows: [0, 5] })
