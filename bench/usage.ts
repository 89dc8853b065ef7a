// What the benchmarks say of themselves.
import { parts } from './e2e/e2e.ts'

export const usage = `npm run bench -- [train | losses | decoding | decode | agreement | drafts | generate | sources | prefixes | service | serve | gaps | shares | sampling | choosing | choose | e2e | report] [options]
  train                      trainings in float32 and in 8 bits, of the default model and of GPT-2's shape, into docs/benchmarks.md; --against peft
  losses                     held-out losses of trainings in 8 bits beside float32; --rounds N takes so many seeds
  decoding                   decode steps of the default model and of GPT-2's shape beside a plain read of their weights
  service                    answers of the whole service while it trains, instead of the two numbers
  serve                      the whole service under many clients; ends with 1 when one failed, or something leaked
  prefixes                   a full batch with a thousand stored prefixes, beside the same with one
  generate                   rows with prefixes of their own in turn with PEFT, in GPT-2's shape; needs --against peft and --python PATH
  decode                     decode steps in float32 and in 8 bits; --against ctranslate2,llama.cpp in turn with these, which needs --python
  agreement                  texts of 200 E2E records in 8 bits beside those in float32; needs --data
  drafts                     texts of E2E records with and without drafts, and in GPT-2's shape; --against ctranslate2,llama.cpp; needs --data
  sources                    the shape of bart-base: --against peft trains in turn with it, --against ctranslate2 generates
  report                     train, losses, decoding, service, prefixes, generate, sources and serve, into docs/benchmarks.md; --against peft
  e2e                        trains on the E2E data set and writes docs/e2e.md; goes on where it was stopped; needs --data
  gaps                       time between two tokens of rows that decode while prompts of 900 tokens keep arriving
  choose                     options that are chosen beside a grid, into docs/choice.md; goes on where it was stopped; needs --data
  shares                     what of a training step in GPT-2's shape is outside of matrix products, by onnxruntime's profile
  sampling                   microseconds a row of choosing a token, for each option of a request; no model runs
  choosing                   what a decode step costs beside the model, in percent of it, and loading a prefix; for --shape gpt2, --precision words
  --data FOLDER              the data set: src1_train.txt, src1_valid.txt and src1_test.txt
  --part PART                of e2e: ${parts.join(', ')} (default all; page trains nothing)
  --together N               of e2e: trainings side by side (default 4)
  --seconds N                of serve: how long (default 120)
  --clients N                of serve: at once (default 64)
  --prefixes N               stored, of serve (default 100) and of prefixes (default 1000)
  --seed N                   of what is drawn (default 1)
  --shape gpt2|gpt2-medium|bart-base   seeded weights of that shape, made once; tiny is for trying a bench
  --model DIR                a model folder (default: the model that comes with the project)
  --rows N                   rows that decode side by side, each with its own prefix (default 8; of prefixes, generate and choosing 32)
  --rounds N                 measured rounds (default 5)
  --threads N                threads inside one operator (default: all processors)
  --precision fast           train or serve in 8 bits, in the form that is the fastest here; or in one by its name (default float32)
  --runtime cuda             on an NVIDIA GPU: training and decoding beside PEFT in bfloat16, several trainings in a step, GPT-2 medium
                             beside the most that products reach, time and limit of each kernel; GPT-2's shape unless said
  --runtime webgpu           on any GPU: training and decoding steps in turn with the CPU
  --quick                    of these two: each part once with the tiny shape, to try the bench itself
  --peft-device cpu          PyTorch's name of what PEFT runs on beside --runtime cuda (default cuda)
  --python-ctranslate2 PATH  of sources: the Python that has it (default: --python)
  --against peft             train step by step in turn with PEFT; needs --python PATH with torch, transformers and peft
  --peft-dtype bfloat16      PEFT's (default float32)
  --write                    put the figures into docs/benchmarks.md, in the place of earlier ones of their kind
  --json                     print for programs
`
