// The bench of a GPU tried as a whole on the Vulkan driver in software: every part runs, and no figure gets into the page.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { webgpuSections } from '../../../bench/device-report.ts'
import { triedWork } from '../../../bench/device-work.ts'
import { shapeModel } from '../../../bench/shape-model.ts'
import { measureWebgpu } from '../../../bench/webgpu.ts'
import { assertFigures } from '../../bench/figures.ts'
import { isOnDevice, testWebgpu } from './runtimes.ts'

test('the bench of the webgpu runtime takes every figure beside the CPU', {
  skip: isOnDevice ? 'npm run bench takes them on the device' : testWebgpu.skip,
}, async (t) => {
  const scratch = await mkdtemp(path.join(tmpdir(), 'preamble-webgpu-bench-'))
  t.after(() => rm(scratch, { recursive: true }))
  const common = { rounds: 1, threads: 1, write: false }
  // One number of rows: each is a session of its own.
  const options = { ...common, work: { ...triedWork, rows: [2] }, folder: await shapeModel('tiny', scratch) }
  const figures = await measureWebgpu(options)
  assertFigures(figures['training'], ['what', 'stepMsMedian', 'stepsPerSecond'])
  assertFigures(figures['decoding'], ['rows', 'what', 'stepMsMedian', 'tokensPerSecond'])
  const [section] = webgpuSections(figures)
  assert.match(section?.text ?? '', /SwiftShader.*\| webgpu \|.*\| the CPU \|.*\| 2 \| the CPU \|/s)
  await assert.rejects(measureWebgpu({ ...options, write: true }), /SwiftShader.* its figures do not go into the page/)
})
