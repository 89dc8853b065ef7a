// The most operations a second that products of large matrices reach on the GPU: by ours, and by PyTorch's where it is at hand.
import type { CudaRuntime } from '../src/runtime/cuda/cuda.ts'
import type { DeviceRival } from './cuda.ts'
import type { Figures } from './machine.ts'
import { openRival } from './rival.ts'

/** Products of one size in a round: the device must have left its rest. */
const runs = 10

/** Teraflops of the fastest product of `sizes`, each as rows, columns and inner extent. */
export async function measurePeak(
  runtime: CudaRuntime,
  form: 'bfloat16',
  sizes: readonly number[],
  rounds: number,
  rival: DeviceRival | null,
): Promise<Record<string, number>> {
  const operations = (size: number): number => 2 * size ** 3
  const best = (of: (size: number) => number): number =>
    Math.max(...sizes.map((size) => operations(size) / of(size) / 1e9))
  const peakTeraflops = best((size) => Math.min(...runtime.timeProducts(size, form, rounds * runs)))
  if (rival === null) return { peakTeraflops }
  const { python, device } = rival
  const flags = ['--device', device, '--dtype', form, '--sizes', sizes.join()]
  const torch = await openRival(python, 'products.py', flags)
  const { productsMs } = (await torch.run(rounds * runs)) as { productsMs: Figures }
  torch.quit()
  return { peakTeraflops, peftPeakTeraflops: best((size) => Number(productsMs[size])) }
}
