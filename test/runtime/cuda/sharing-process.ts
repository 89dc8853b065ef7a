// A process that borrows weights from the folder in its argument, and prints what it computes and how much memory it took; again after a line from who waits for that.
import { once } from 'node:events'
import { argv, stdin } from 'node:process'
import { openModel } from '../../../src/model/model.ts'
import { openCudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { Driver } from '../../../src/runtime/cuda/driver.ts'
import { goldenFolder } from '../../golden/gpt2.ts'
import { buildStandIn } from './stand-in/build.ts'

const { libraries, kernels } = buildStandIn()
const warnings: string[] = []
const warn = (message: string): number => warnings.push(message)
const exchange = { folder: argv[2] as string, role: 'borrows', warn, bytesMin: 0 } as const
const gone: string[] = []
const onLost = (error: Error): unknown => gone.push(error.message)
const runtime = openCudaRuntime({ folder: kernels, libraries: [libraries], exchange, onLost })
const model = await openModel(`${goldenFolder}/model`)
const layout = { ...model.config, rowsMax: 1 }
const session = await runtime.openSession(model.forwardGraph(), model.weights, layout)
const { free, total } = Driver.open([libraries]).memory()
session.seed(0, null)
const logits = [...(await session.extend(0, [[1, 2, 3]]))]
process.stdout.write(`${JSON.stringify({ logits, used: total - free, warnings })}\n`)
if (argv[3] === 'again') {
  await once(stdin, 'data')
  const error = await session.extend(0, [[4]]).then(
    () => null,
    (reason: Error) => reason.message,
  )
  process.stdout.write(`${JSON.stringify({ error, gone })}\n`)
}
await session.dispose()
process.exit(0)
