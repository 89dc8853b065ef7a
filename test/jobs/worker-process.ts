// A worker in a process of its own, to be killed: worker-process.js URL KEYSPACE [JOB TEMPLATE]; it says when it is ready.
import { openBroker } from '../../src/jobs/broker.ts'
import { openJobQueue } from '../../src/jobs/queue.ts'
import { startWorker } from '../../src/jobs/worker.ts'
import { jobData, lockMs, processorFile, quiet } from './fixtures.ts'

const [url = '', keyspace = '', jobId, template] = process.argv.slice(2)
const broker = await openBroker(url, { keyspace })
const queue = openJobQueue(broker)
if (jobId !== undefined && template !== undefined) await queue.enqueue(jobId, jobData(template))
const onEnd = (): Promise<void> => Promise.resolve()
await startWorker({
  broker,
  processorFile,
  processesMax: 1,
  jobsPerProcess: 1,
  lockMs,
  env: process.env,
  log: quiet,
  onEnd,
}).ready()
process.send?.('ready')
if (jobId !== undefined) {
  const { signal } = new AbortController()
  for await (const event of queue.events(jobId, 0, signal)) process.send?.(event)
}
