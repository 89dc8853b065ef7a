// A process that compiles one kernel, `tested` of a pointer to eight numbers, runs it and prints them; for kernels that may end it.
import { argv } from 'node:process'
import { Device } from '../../../../src/runtime/cuda/device.ts'
import { layOut } from '../../../../src/runtime/cuda/driver.ts'
import { Nvrtc } from '../../../../src/runtime/cuda/nvrtc.ts'
import { buildStandIn } from './build.ts'

const { libraries, kernels } = buildStandIn()
const { driver } = Device.open({ folder: kernels, libraries: [libraries] })
const source = `extern "C" __global__ void tested(float* x) { ${argv[2]} }`
const code = Nvrtc.open([libraries]).compile('tested.cu', source, 90, {})
const kernel = driver.getFunction(driver.loadModule(code), 'tested')
const address = driver.allocate(32, 'a test')
driver.fill(address, 0, 32)
const { parameters, slots } = layOut([new Uint8Array(BigUint64Array.of(address).buffer)])
driver.launch(kernel, [1, 1, 1], 32, parameters)
driver.synchronize()
const numbers = new Float32Array(8)
driver.download(numbers, address)
driver.synchronize()
void slots.length
process.stdout.write([...numbers].join())
