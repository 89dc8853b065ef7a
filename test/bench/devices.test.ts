// The bench of an NVIDIA GPU tried as a whole, on the stand-in for its libraries: every part runs, and no figure gets into the page.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { measureCuda } from '../../bench/cuda.ts'
import { cudaSections } from '../../bench/device-report.ts'
import { triedWork } from '../../bench/device-work.ts'
import type { Figures } from '../../bench/machine.ts'
import { shapeModel } from '../../bench/shape-model.ts'
import { testCuda, isOnDevice } from '../runtime/cuda/runtimes.ts'
import { buildStandIn } from '../runtime/cuda/stand-in/build.ts'
import { assertFigures } from './figures.ts'

const scratch = await mkdtemp(path.join(tmpdir(), 'preamble-devices-'))
after(() => rm(scratch, { recursive: true }))
const common = { work: triedWork, rounds: 1, threads: 1, write: false }

test('the bench of the cuda runtime takes every figure', {
  skip: isOnDevice ? 'npm run bench takes them on the device' : testCuda.skip,
}, async () => {
  const { libraries, kernels } = buildStandIn()
  const folder = await shapeModel('tiny', scratch)
  const options = { ...common, folder, largeFolder: folder, peft: null, libraries: [libraries], kernels }
  const heard: string[] = []
  const figures = await measureCuda(options, (part) => heard.push(...Object.keys(part)))
  assert.deepEqual(heard, Object.keys(figures))
  for (const form of ['bfloat16', 'float32']) {
    assertFigures(figures[`training ${form}`], ['stepMsMedian', 'stepsPerSecond'])
    assertFigures(figures[`decoding ${form}`], ['rows', 'stepMsMedian', 'tokensPerSecond', 'shareOfMemoryLimit'])
  }
  assertFigures(figures['together'], ['togetherMs', 'apartMs', 'timesFasterMedian'])
  assertFigures(figures['large'], ['teraflops', 'peakTeraflops', 'shareOfPeak'])
  const timed = figures['kernels'] as Figures[]
  assertFigures(timed, ['step', 'kernel', 'count', 'ms', 'gigabytesPerSecond', 'shareOfMemoryLimit'])
  assert.deepEqual([...new Set(timed.map(({ step }) => step))], ['training', 'decoding 1', 'decoding 2'])
  for (const wanted of ['product bfloat16', 'adamw', 'choose'])
    assert.ok(
      timed.some(({ kernel }) => kernel === wanted),
      `${wanted} among ${timed.map(({ kernel }) => kernel).join()}`,
    )
  assert.match(
    cudaSections(figures)
      .map(({ text }) => text)
      .join(''),
    /stand-in on the CPU.*\| tiny \|.*\| choose \|/s,
  )
  await assert.rejects(
    measureCuda({ ...options, write: true }, () => undefined),
    /^Error: stand-in on the CPU.* its figures do not go into the page/,
  )
})
