#!/usr/bin/env bash
# Everything that a machine with an NVIDIA GPU can tell, into a folder: its checks, all kernels compiled, all figures.
#   bench/device.sh FOLDER [PYTHON]
# PYTHON has torch, transformers and peft; without it ours are measured alone. CUDA_LIBRARIES names the folder of NVRTC and cuBLAS where the
# system does not find them. `npm ci` must have run. A part that fails is named, and the others go on; the exit status is their number.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?a folder for what comes of it}")
python=${2:-}
mkdir -p "$out"
failed=0

# The limits come to ten minutes: what is stopped has left behind what it knew until then.
part() {
  local name=$1 seconds=$2
  shift 2
  local start=$SECONDS status=0
  timeout "$seconds" "$@" >"$out/$name.log" 2>"$out/$name.err" || status=$?
  [ "$status" = 0 ] || failed=$((failed + 1))
  printf '%-12s status %s, %s s\n' "$name" "$status" $((SECONDS - start)) | tee -a "$out/summary.txt"
}

part build 60 npm run --silent build
part device 10 nvidia-smi
bench=(node dist/bench/bench.js --runtime cuda --json)
[ -z "$python" ] || bench+=(--against peft --python "$python")
# Before the checks, as figures need the machine for themselves. Each part of them is a line of bench.err as soon as it is there.
part bench 270 "${bench[@]}"
# `npm run test:cuda`, the compilation of all kernels among it: a log of each file, written test by test, so that what is stopped has told the rest.
mkdir -p "$out/checks"
files=(dist/test/ops/runtimes.test.js dist/test/train/golden.test.js dist/test/train/golden-options.test.js dist/test/runtime/cuda/*.test.js dist/test/main/cuda.test.js)
PREAMBLE_TEST_CUDA=device part checks 250 xargs -P "$(nproc)" -I FILE sh -c \
  'node --test-reporter=spec FILE >"$0/checks/$(basename FILE .js).log" 2>&1 || { echo "FILE failed"; exit 1; }' "$out" \
  < <(printf '%s\n' "${files[@]}")
exit "$failed"
