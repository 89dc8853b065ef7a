// Sanitizers look at kernels on the stand-in: what reads outside, which guard zones do not show, ends the process with a report.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { execPath } from 'node:process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { sanitizedEnvironment, whyUnsanitized } from './stand-in/sanitize.ts'

const skip = whyUnsanitized() ?? false
const program = fileURLToPath(new URL('stand-in/run-kernel.js', import.meta.url))

const run = (body: string): { readonly status: number | null; readonly stdout: string; readonly stderr: string } =>
  spawnSync(execPath, [program, body], { env: sanitizedEnvironment(), encoding: 'utf8' })

test('a kernel whose threads meet at barriers and shuffle, and stay inside, passes', { skip }, () => {
  const { status, stdout, stderr } = run(`
    __shared__ float turned[32];
    float lane = (float)threadIdx.x;
    for (int step = 16; step > 0; step /= 2) lane += __shfl_xor_sync(0xffffffffu, lane, step);
    turned[31 - threadIdx.x] = lane + (float)threadIdx.x;
    __syncthreads();
    if (threadIdx.x < 8) x[threadIdx.x] = turned[threadIdx.x];`)
  assert.equal(status, 0, stderr)
  assert.equal(stdout, '527,526,525,524,523,522,521,520')
})

for (const [what, body, report] of [
  ['reads behind its memory', 'if (threadIdx.x == 0) x[0] = x[8];', /AddressSanitizer: use-after-poison/],
  ['reads before its memory', 'if (threadIdx.x == 0) x[0] = x[-1];', /AddressSanitizer: use-after-poison/],
  [
    'reads outside of shared memory',
    '__shared__ float s[4]; s[threadIdx.x % 4] = 1.0f; int far = (int)x[0] + 4; if (threadIdx.x == 5) x[0] = s[far];',
    /index 4 out of bounds|AddressSanitizer: global-buffer-overflow/,
  ],
  ['reads four numbers where none may begin', 'float4 a = *(float4*)(x + 1); x[0] = a.x;', /misaligned address/],
] as const) {
  test(`a kernel that ${what} ends the process with a report`, { skip }, () => {
    const { status, stderr } = run(body)
    assert.notEqual(status, 0)
    assert.match(stderr, report)
  })
}
