// All kernels compiled for sm_90: Hopper.
import { testCompiling } from './compile-contract.ts'

testCompiling(90)
