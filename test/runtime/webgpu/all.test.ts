// All tests that run on WebGPU but those of a whole service, in one process: the driver in software takes seconds to compile a program, and forgets it with the process.
import { testOps } from '../../ops/ops-contract.ts'
import { testBart } from '../../train/bart-golden-contract.ts'
import { testGolden } from '../../train/golden-contract.ts'
import { testGoldenOptions } from '../../train/golden-options-contract.ts'
import { goldenRuns } from '../../train/golden-runs.ts'
import { tinyData } from '../../train/tiny.ts'
import { testDecoding } from '../decode-contract.ts'
import { testTexts } from '../engine-contract.ts'
import { testTraining } from '../training-contract.ts'
import './bart.ts'
import './bench.ts'
import './choose.ts'
import './device.ts'
import './open.ts'
import './session.ts'
import { testWebgpu } from './runtimes.ts'

const device = { skip: testWebgpu.skip, open: () => testWebgpu.open() }

testOps({ name: 'webgpu', ...device })
for (const run of goldenRuns(['webgpu'])) {
  testGolden(run)
  testGoldenOptions(run)
}
testBart(['webgpu'])
testDecoding(device)
testTexts({ ...device, maxNewTokens: 8, tellsAll: true, bartRows: [0] })
// Five steps in all, and held-out losses of one batch.
testTraining({ ...device, data: tinyData(20, 2), epochs: 1, steps: { beside: 5, stopped: 2, shared: 3 } })
