// The benches of GPUs tried as a whole, on the stand-in for NVIDIA's libraries and on a Vulkan driver in software: every part runs, and no figure gets into the page.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { measureCuda } from '../../bench/cuda.ts'
import { cudaSections, webgpuSections } from '../../bench/device-report.ts'
import { triedWork } from '../../bench/device-work.ts'
import type { Figures } from '../../bench/machine.ts'
import { shapeModel } from '../../bench/shape-model.ts'
import { measureWebgpu } from '../../bench/webgpu.ts'
import { testCuda, isOnDevice } from '../runtime/cuda/runtimes.ts'
import { buildStandIn } from '../runtime/cuda/stand-in/build.ts'
import { isOnDevice as isOnGpu, testWebgpu } from '../runtime/webgpu/runtimes.ts'

const scratch = await mkdtemp(path.join(tmpdir(), 'preamble-devices-'))
after(() => rm(scratch, { recursive: true }))
const common = { work: triedWork, rounds: 1, threads: 1, write: false }

/** Every number is one, and above 0: a kernel or a step that took no time was not there. */
function assertFigures(figures: unknown, named: readonly string[]): void {
  const rows = [figures].flat() as Figures[]
  assert.ok(rows.length > 0, `figures of ${named}`)
  for (const row of rows) {
    for (const name of named) assert.ok(name in row, `${name} of ${JSON.stringify(row)}`)
    for (const [name, value] of Object.entries(row)) {
      const least = name === 'teraflops' || name.endsWith('Second') || name.endsWith('Limit') ? 0 : Number.MIN_VALUE
      assert.ok(typeof value === 'string' || value >= least, `${name} is ${value} of ${JSON.stringify(row)}`)
    }
  }
}

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

test('the bench of the webgpu runtime takes every figure beside the CPU', {
  skip: isOnGpu ? 'npm run bench takes them on the device' : testWebgpu.skip,
}, async () => {
  // A number of rows is a session of its own, whose shaders the driver compiles anew.
  const work = { ...triedWork, rows: [2] }
  const options = { ...common, work, folder: await shapeModel('tiny', scratch) }
  const figures = await measureWebgpu(options)
  assertFigures(figures['training'], ['what', 'stepMsMedian', 'stepsPerSecond'])
  assertFigures(figures['decoding'], ['rows', 'what', 'stepMsMedian', 'tokensPerSecond'])
  const [section] = webgpuSections(figures)
  assert.match(section?.text ?? '', /SwiftShader.*\| webgpu \|.*\| the CPU \|.*\| 2 \| the CPU \|/s)
  await assert.rejects(measureWebgpu({ ...options, write: true }), /SwiftShader.* its figures do not go into the page/)
})
